"""The native launcher: builds, starts, watches and stops the engines and the service."""
