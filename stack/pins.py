"""What each engine is built from: data only.

The versions are in engines/<name>/go.mod, every byte of what they pull in is fixed by go.sum.
"""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass
from pathlib import Path

from stack.layout import CHECKOUT, Layout

# -s -w and -dwarf=false: nothing for a debugger, half the engine's size and three quarters of
# the build cache's; -trimpath and no VCS stamp: the same sources give the same binary in any
# folder. Also the flags under which the Go build cache is shared.
BUILD_FLAGS = (
    *("-trimpath", "-buildvcs=false", "-mod=readonly"),
    *("-ldflags", "-s -w", "-gcflags", "all=-dwarf=false"),
)


@dataclass(frozen=True)
class Engine:
    """One Go module and the programs built from it."""

    name: str
    packages: tuple[str, ...]
    binaries: tuple[str, ...]
    tags: str = "netgo"
    # How long it takes on two cores with empty caches, in seconds; a first guess for the display.
    cold_s: float = 60
    # Built by a script of its own instead of `go build`.
    script: str | None = None

    @property
    def module_dir(self) -> Path:
        return CHECKOUT / "stack" / "engines" / self.name

    def key(self, go_version: str) -> str:
        """Changes whenever a rebuild would give another binary."""
        digest = hashlib.sha256()
        sources = sorted(self.module_dir.iterdir())
        if self.script:
            sources.append(ENGINES_BY_NAME["prometheus"].module_dir / "go.mod")
        for source in sources:
            digest.update(f"{source.name}\0".encode())
            digest.update(source.read_bytes())
        for part in (*BUILD_FLAGS, self.tags, *self.packages, go_version, platform.machine()):
            digest.update(f"\0{part}".encode())
        return digest.hexdigest()[:12]

    def folder(self, layout: Layout, go_version: str) -> Path:
        """Where this build of the engine is, or will be."""
        return layout.bin_dir / f"{self.name}-{self.key(go_version)}"


# In the order in which they are built: what the service needs first.
ENGINES: tuple[Engine, ...] = (
    Engine("otel-collector", (".",), ("otelcol",), cold_s=90),
    Engine(
        "prometheus",
        (
            "github.com/prometheus/prometheus/cmd/prometheus",
            "github.com/prometheus/prometheus/cmd/promtool",
        ),
        ("prometheus", "promtool"),
        # Without the clients of some twenty clouds: targets are files here.
        tags="netgo,remove_all_sd",
        cold_s=125,
    ),
    Engine(
        "alertmanager",
        (
            "github.com/prometheus/alertmanager/cmd/alertmanager",
            "github.com/prometheus/alertmanager/cmd/amtool",
        ),
        ("alertmanager", "amtool"),
        cold_s=35,
    ),
    Engine(
        "victorialogs",
        ("github.com/VictoriaMetrics/VictoriaLogs/app/victoria-logs",),
        ("victoria-logs",),
        cold_s=20,
    ),
    Engine("jaeger", ("github.com/jaegertracing/jaeger/cmd/jaeger",), ("jaeger",), cold_s=190),
)

# Prometheus' own page, which its Go module has as sources only. The stack is up without it.
PAGE = Engine("prometheus-page", (), ("prometheus-page",), tags="", cold_s=140, script="build.sh")

# The Collector with what sampling of whole traces takes (otel-collector/gateway-builder.yaml).
GATEWAY = Engine("otel-gateway", (".",), ("otelcol-gateway",), cold_s=170)

# No engine but built and pinned as one: what `make check` reads deploy/kubernetes/ with.
KUSTOMIZE = Engine("kustomize", ("sigs.k8s.io/kustomize/kustomize/v5",), ("kustomize",), cold_s=45)

# What only `make scale-demo` runs. Without the tag its sidecars crash: Prometheus' labels have two
# forms in memory, and Thanos reads this one.
THANOS = Engine(
    "thanos",
    ("github.com/thanos-io/thanos/cmd/thanos",),
    ("thanos",),
    tags="netgo,slicelabels",
    cold_s=200,
)

# What `build` builds when it is told no names.
USUAL = (*(engine.name for engine in ENGINES), PAGE.name)

ENGINES_BY_NAME = {engine.name: engine for engine in (*ENGINES, PAGE, GATEWAY, KUSTOMIZE, THANOS)}
