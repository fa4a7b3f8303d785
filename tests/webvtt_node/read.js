// Reads WebVTT files, one JSON string a line on stdin; writes what each reader makes of it, one
// JSON object a line on stdout. Lives as long as its stdin.
"use strict";

const path = require("node:path");
const readline = require("node:readline");

const modules = process.argv[2];
const { WebVTTParser } = require(path.join(modules, "webvtt-parser"));
const entities = require(path.join(modules, "webvtt-parser", "html-entities.json"));
const webvtt = require(path.join(modules, "node-webvtt"));

const textOf = (node) =>
  node.type === "text" ? node.value : (node.children || []).map(textOf).join("");

function w3c(file) {
  const { cues, errors } = new WebVTTParser(entities).parse(file, "captions/subtitles/descriptions");
  return {
    errors: errors.map((error) => `${error.line}: ${error.message}`),
    cues: cues.map((cue) => [cue.startTime, cue.endTime, textOf(cue.tree)]),
  };
}

function nodeWebvtt(file) {
  try {
    const { cues } = webvtt.parse(file);
    return { errors: [], cues: cues.map((cue) => [cue.start, cue.end, cue.text]) };
  } catch (error) {
    return { errors: [String(error.message)], cues: [] };
  }
}

readline.createInterface({ input: process.stdin, crlfDelay: Infinity }).on("line", (line) => {
  const file = JSON.parse(line);
  console.log(JSON.stringify({ w3c: w3c(file), nodeWebvtt: nodeWebvtt(file) }));
});
