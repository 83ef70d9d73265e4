// The pace: how long a request will take, by the server's metrics and by what was seen here.

import { keep, recall } from "./memory.js";

/** Rows times steps of a request: a guided image takes two rows a step. */
export function rowSteps({ steps, guidance, interval = [0, 1], count = 1 }) {
  const guided = guidance > 1 ? interval[1] - interval[0] : 0;
  return steps * (1 + guided) * count;
}

export class Pace {
  constructor(digest) {
    this.name = `dit-pace-${digest.slice(0, 12)}`;
    const stored = Number(recall(this.name));
    this.seen = stored > 0 ? stored : undefined; // seconds per row-step
  }

  /** Learn from /metrics: the whole server's average. */
  learn(samples) {
    const rows = samples.get("dit_tick_rows_sum");
    if (rows > 0) this.average = samples.get("dit_tick_duration_seconds_sum") / rows;
  }

  /** Learn from a finished request that was alone. */
  observe(seconds, done) {
    if (!(seconds > 0 && done > 0)) return;
    const now = seconds / done;
    this.seen = this.seen === undefined ? now : 0.6 * this.seen + 0.4 * now;
    keep(this.name, String(this.seen));
  }

  /** Seconds of many requests that share the server's passes. */
  together(requests) {
    const each = this.average ?? this.seen;
    return each && requests.reduce((sum, request) => sum + each * rowSteps(request), 0);
  }

  /** Seconds of a request, or undefined as long as nothing has been measured. */
  seconds(request) {
    const each = this.seen ?? this.average;
    return each === undefined ? undefined : each * rowSteps(request);
  }
}

/** Seconds as people say them. */
export function inWords(seconds) {
  if (seconds < 0.95) return `${Math.max(seconds, 0.1).toFixed(1)} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}
