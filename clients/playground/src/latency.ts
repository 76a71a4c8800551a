// How long the calls of this page took, as it is open: a histogram that grows with each.
import { h, s, shownMs } from "./element.js";

const EDGES = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048];
const HEIGHT = 84;
const WIDTH = 26;

/** Keeps what was measured, and draws it into an element. */
export class Latency {
  private readonly taken: { here: number; server: number }[] = [];

  constructor(private readonly into: HTMLElement) {
    this.draw();
  }

  /** Adds a call: its time as the browser saw it, and that of the server's stages. */
  add(here: number, server: number): void {
    this.taken.push({ here, server });
    this.draw();
  }

  clear(): void {
    this.taken.length = 0;
    this.draw();
  }

  private draw(): void {
    if (this.taken.length === 0) {
      this.into.replaceChildren(
        h("p", { class: "muted" }, "Nothing was asked yet. Each call adds to a histogram here."),
      );
      return;
    }
    const here = this.taken.map((one) => one.here).sort((a, b) => a - b);
    const server = this.taken.map((one) => one.server).sort((a, b) => a - b);
    const summary = `${here.length} call${here.length === 1 ? "" : "s"}; here: half within ${shownMs(at(here, 0.5))}, 9 of 10 within ${shownMs(at(here, 0.9))}`;
    const onServer = `on the server: half within ${shownMs(at(server, 0.5))}`;
    const clear = h("button", { type: "button", class: "small" }, "Clear");
    clear.addEventListener("click", () => this.clear());
    this.into.replaceChildren(
      bars(here, `Histogram of call times. ${summary}`),
      h("p", {}, summary),
      h("p", { class: "muted" }, onServer),
      clear,
    );
  }
}

function at(sorted: number[], share: number): number {
  return sorted[Math.ceil(share * sorted.length) - 1] ?? 0;
}

function bars(times: number[], label: string): SVGElement {
  const counts = new Array<number>(EDGES.length + 1).fill(0);
  for (const time of times) {
    const bucket = EDGES.findIndex((edge) => time < edge);
    const index = bucket < 0 ? EDGES.length : bucket;
    counts[index] = (counts[index] ?? 0) + 1;
  }
  const most = Math.max(...counts);
  const drawn = counts.map((count, index) => {
    const high = count === 0 ? 1 : 4 + ((HEIGHT - 4) * count) / most;
    return s("rect", {
      x: index * WIDTH + 3,
      y: HEIGHT - high,
      width: WIDTH - 6,
      height: high,
      rx: 2,
      class: count ? "bar" : "track",
    });
  });
  const marks = EDGES.map((edge, index) =>
    index % 3 === 0
      ? s(
          "text",
          { x: (index + 1) * WIDTH, y: HEIGHT + 14, "text-anchor": "middle" },
          edge >= 1000 ? `${edge / 1024} s` : `${edge} ms`,
        )
      : null,
  );
  return s(
    "svg",
    { viewBox: `0 0 ${counts.length * WIDTH} ${HEIGHT + 18}`, class: "histogram", role: "img", "aria-label": label },
    ...drawn,
    ...marks,
  );
}
