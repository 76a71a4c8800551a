// Draws the funnel as it narrows: a row for each stage, as wide as there are items, with its time and its plan.
import {
  type AnswerInfo,
  type SourceReport,
  StageOutcome,
  type StageReport,
} from "../../typescript/src/gen/shortlist/v1/types_pb.js";
import { h, s, shownMs } from "./element.js";

const WORDS: Record<string, string> = {
  admission: "checks, and waiting for a turn",
  query: "who is asking",
  retrieval: "candidates are found",
  ranking: "each candidate is scored",
  rating: "a language model rates",
  rerank: "a language model orders",
  diversity: "alike ones step back",
  select: "the list is made",
  response: "attributes are written",
};
const NECK = 3;

export function msOf(one: { duration?: { seconds: bigint; nanos: number } | undefined }): number {
  return one.duration === undefined ? 0 : Number(one.duration.seconds) * 1000 + one.duration.nanos / 1e6;
}

/** Returns the time on the server: that of all stages. */
export function serverMs(stages: StageReport[]): number {
  return stages.reduce((sum, stage) => sum + msOf(stage), 0);
}

/** Returns the drawing, which is a list to those who do not see it. */
export function funnel(info: AnswerInfo): HTMLElement {
  const stages = info.stages;
  const most = Math.max(1, ...stages.map((stage) => stage.itemsIn));
  const longest = Math.max(0.001, ...stages.map(msOf));
  const rows = stages.map((stage) => {
    const empty = stage.itemsIn === 0 && stage.itemsOut === 0;
    return h(
      "li",
      { class: `stage${stage.outcome === StageOutcome.OK ? "" : " off"}` },
      h(
        "div",
        { class: "stage-name" },
        h("b", {}, stage.name),
        h("span", { class: "words muted" }, WORDS[stage.name] ?? ""),
        (stage.plan !== "" || stage.outcome !== StageOutcome.OK) &&
          h("span", { class: "plan" }, outcome(stage.outcome), stage.plan),
      ),
      drawn(wide(stage.itemsIn, most, empty), wide(stage.itemsOut, most, empty)),
      h(
        "div",
        { class: "stage-numbers" },
        empty
          ? null
          : h(
              "span",
              { class: "counts" },
              h("span", { class: "hidden" }, "items in: "),
              stage.itemsIn.toLocaleString("en"),
              h("span", { "aria-hidden": "true" }, " → "),
              h("span", { class: "hidden" }, ", out: "),
              h("b", {}, stage.itemsOut.toLocaleString("en")),
            ),
        h("span", { class: "time" }, timeBar(msOf(stage) / longest), shownMs(msOf(stage))),
      ),
    );
  });
  return h(
    "div",
    {},
    h("ol", { class: "funnel", "aria-label": "The funnel, stage by stage" }, ...rows),
    info.sources.length > 0 && sources(info.sources),
  );
}

/** Width in percent: by the logarithm, since a thousand items become ten. */
function wide(count: number, most: number, empty: boolean): number {
  return empty ? NECK : Math.max(NECK, (100 * Math.log1p(count)) / Math.log1p(most));
}

function drawn(top: number, bottom: number): SVGElement {
  const points = [
    [50 - top / 2, 0],
    [50 + top / 2, 0],
    [50 + bottom / 2, 40],
    [50 - bottom / 2, 40],
  ];
  return s(
    "svg",
    { viewBox: "0 0 100 40", preserveAspectRatio: "none", class: "trapezoid", "aria-hidden": "true" },
    s("polygon", { points: points.map((point) => point.join(",")).join(" ") }),
  );
}

function timeBar(share: number): SVGElement {
  return s(
    "svg",
    { viewBox: "0 0 40 6", class: "time-bar", "aria-hidden": "true" },
    s("rect", { width: 40, height: 6, rx: 3, class: "track" }),
    s("rect", { width: Math.max(2, 40 * share), height: 6, rx: 3 }),
  );
}

function outcome(value: StageOutcome): HTMLElement | null {
  if (value === StageOutcome.OK) return null;
  return h("span", { class: "tag warn" }, StageOutcome[value].toLowerCase().replaceAll("_", " "));
}

function sources(reports: SourceReport[]): HTMLElement {
  const chips = reports.map((source) =>
    h(
      "li",
      { class: "chip", title: source.plan },
      outcome(source.outcome),
      h("b", {}, source.name),
      ` ${source.itemCount.toLocaleString("en")} in ${shownMs(msOf(source))}`,
    ),
  );
  return h(
    "div",
    { class: "sources" },
    h("span", { class: "muted" }, "Sources "),
    h("ul", { class: "chips", "aria-label": "Sources of the candidates" }, ...chips),
  );
}
