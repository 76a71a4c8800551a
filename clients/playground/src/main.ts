// The page: asks the server what it has, and then what the form says.
import { answerOf, type Outcome } from "./answer.js";
import { Conversation } from "./conversation.js";
import { byId, h } from "./element.js";
import { Form } from "./form.js";
import { serverMs } from "./funnel.js";
import { KeyDialog } from "./key.js";
import { Latency } from "./latency.js";
import { requestOf } from "./request.js";
import { Schema, titleOf } from "./schema.js";
import { adviceOf, bundles, type Failure, failureOf, grpcTarget, hasKey, recommendation } from "./server.js";
import { DEFAULTS, read, type Settings, written } from "./settings.js";
import { moveByArrows } from "./tabs.js";
import { setUpTheme } from "./theme.js";

const PICKS = 500;
const USERS = "shortlist-users";
const B = "b=";

type Side = "a" | "b";

setUpTheme();
const form = new Form();
const latency = new Latency(byId("latency"));
const keys = new KeyDialog(() => void connect());
new Conversation((here, server) => latency.add(here, server), concern);

let schema: Schema | undefined;
let running: AbortController | undefined;
let comparing = false;
/** Whether somebody has typed into the form, which may be before it is known what the bundle has. */
let touched = false;
let editing: Side = "a";
const settings: Record<Side, Settings> = { a: read(""), b: read("") };

/** Asks what is served, and offers it. */
async function connect(): Promise<void> {
  show("wait", "Asking the server…");
  try {
    schema = new Schema(await bundles.getActiveBundle({}, { timeoutMs: 10_000 }));
  } catch (cause) {
    const failure = failureOf(cause);
    schema = undefined;
    nothing(failure);
    concern(failure);
    return;
  }
  const { id, itemCount, userCount } = schema.bundle;
  show(
    "good",
    `${id?.name} ${id?.version}: ${itemCount.toLocaleString("en")} items, ${userCount.toLocaleString("en")} users`,
  );
  form.offer(schema);
  form.write(settings[editing]);
  if (location.hash.length > 1) await run();
  else welcome();
  await offerPicks(schema);
}

/** Learns what items there are to choose from: the most popular ones. */
async function offerPicks(of: Schema): Promise<void> {
  try {
    const answer = await recommendation.retrieve(
      {
        query: { kind: { case: "user", value: {} } },
        retrieval: { candidateCount: PICKS },
        sources: [{ kind: { case: "popularity", value: {} } }],
        attributes: ["*"],
      },
      { timeoutMs: 10_000 },
    );
    of.learn(answer.items);
    form.offerItems(of);
  } catch {
    // They are a convenience: ids can be typed, and the next call tells what is wrong.
  }
}

async function ask(asked: Settings, of: Schema, signal: AbortSignal): Promise<Outcome> {
  const request = requestOf(asked, of);
  const tls = location.protocol === "https:";
  const origin = new URL("..", location.href.replace(/#.*/, "")).href.replace(/\/$/, "");
  const outcome: Outcome = {
    asked: { settings: asked, request, schema: of, target: grpcTarget(), origin, tls, key: hasKey() },
    tookMs: 0,
  };
  const begin = performance.now();
  try {
    const options = { signal, ...(Number(asked.timeoutMs) > 0 && { timeoutMs: Number(asked.timeoutMs) }) };
    outcome.response = await recommendation.recommend(request, options);
  } catch (cause) {
    outcome.failure = failureOf(cause);
  }
  outcome.tookMs = performance.now() - begin;
  return outcome;
}

async function run(): Promise<void> {
  if (schema === undefined) {
    if (touched) settings[editing] = { ...form.read(), conditions: settings[editing].conditions };
    await connect();
    return;
  }
  running?.abort();
  const mine = new AbortController();
  running = mine;
  settings[editing] = form.read();
  form.clearProblems();
  remember();
  const slow = setTimeout(() => working(mine), 150);
  const outcomes: Outcome[] = [];
  // One after the other, so that neither waits for the other.
  for (const side of comparing ? (["a", "b"] as const) : (["a"] as const)) {
    outcomes.push(await ask(settings[side], schema, mine.signal));
  }
  clearTimeout(slow);
  if (running !== mine) return;
  running = undefined;
  answered(outcomes, schema);
}

function answered(outcomes: Outcome[], of: Schema): void {
  for (const outcome of outcomes) {
    if (outcome.response === undefined) continue;
    latency.add(outcome.tookMs, serverMs(outcome.response.info?.stages ?? []));
    of.learn(outcome.response.items);
    const user = outcome.asked.settings.user;
    if (user !== "" && outcome.response.info?.coldStart === false) rememberUser(user);
  }
  form.offerItems(of);
  const failed = outcomes.findIndex((outcome) => outcome.failure !== undefined);
  const failure = outcomes[failed]?.failure;
  const names = ["A", "B"];
  const places = outcomes.map((one) => new Map(one.response?.items.map((item, place) => [item.id, place])));
  byId("answers").classList.toggle("two", outcomes.length > 1);
  byId("answers").replaceChildren(
    ...(outcomes.length > 1 ? [overlap(places)] : []),
    ...outcomes.map((outcome, index) => {
      const other = places[1 - index];
      return answerOf(outcome, {
        ...(outcomes.length > 1 && { name: sideName(names[index] ?? "", outcome.asked.settings) }),
        again: () => void run(),
        like: (item) => form.toggleLiked({ id: item.id, title: titleOf(item) }),
        isLiked: (id) => form.isLiked(id),
        other: outcomes.length > 1 && other !== undefined ? { name: names[1 - index] ?? "", places: other } : undefined,
      });
    }),
  );
  const counts = outcomes.map((one) => one.response?.items.length ?? 0);
  const top = byId("answers").getBoundingClientRect().top;
  // Below the form, on a phone.
  if (top > innerHeight * 0.7) byId("answers").scrollIntoView();
  byId("status").textContent = failure === undefined ? `${counts.join(" and ")} items` : adviceOf(failure);
  if (failure === undefined) return;
  if (comparing) edit(failed === 0 ? "a" : "b");
  form.showProblem(failure);
  concern(failure);
}

/** Says what is different about a side. */
function sideName(name: string, of: Settings): string {
  const label = of.label === "" ? "" : `, ${of.label}`;
  const strong = of.diversity === "0" ? "" : `, diversity ${of.diversity}`;
  return `${name}${label}${strong}${of.rerank ? ", language model" : ""}`;
}

function overlap(places: Map<string, number>[]): HTMLElement {
  const [a, b] = places;
  const both = [...(a?.keys() ?? [])].filter((id) => b?.has(id));
  const same = both.filter((id) => a?.get(id) === b?.get(id)).length;
  return h(
    "p",
    { class: "overlap card" },
    h("b", {}, `${both.length} item${both.length === 1 ? "" : "s"} in both`),
    `, ${same} of them in the same place; ${(a?.size ?? 0) - both.length} only in A, ${(b?.size ?? 0) - both.length} only in B.`,
  );
}

/** Takes notice of failures that are about the server or the key, and not about one call. */
function concern(failure: Failure): void {
  if (failure.kind === "dead") show("bad", "The server does not answer");
  if (failure.kind === "key") keys.ask(adviceOf(failure));
  if (failure.kind === "key") show("bad", "Without an API key that it knows");
  if (failure.kind === "scope") show("bad", failure.message);
}

function show(state: "wait" | "good" | "bad", text: string): void {
  byId("server").dataset.state = state;
  byId("server-text").textContent = text;
}

function working(mine: AbortController): void {
  const stop = h("button", { type: "button", class: "small" }, "Stop");
  stop.addEventListener("click", () => mine.abort());
  byId("status").textContent = "Asking…";
  byId("answers").replaceChildren(h("div", { class: "card working" }, h("p", {}, "Asking…"), stop));
}

function nothing(failure: Failure): void {
  const again = h("button", { type: "button", class: "small" }, "Try again");
  again.addEventListener("click", () => void connect());
  byId("answers").replaceChildren(
    h("div", { class: "notice bad", role: "alert" }, h("p", {}, adviceOf(failure)), again),
  );
}

function welcome(): void {
  const first = h("button", { type: "button", class: "main" }, "What is popular");
  first.addEventListener("click", () => void run());
  byId("answers").replaceChildren(
    h(
      "div",
      { class: "card empty" },
      h("h3", {}, "Ask for a list"),
      h(
        "p",
        {},
        "Type a user, name a few items that somebody likes, or say in words what it should be about. You see the list, how the funnel came to it, and the same call for your own code.",
      ),
      h("p", {}, first),
    ),
  );
}

function edit(side: Side): void {
  settings[editing] = form.read();
  editing = side;
  form.write(settings[side]);
  showSides();
}

function compare(on: boolean): void {
  settings[editing] = form.read();
  comparing = on;
  if (on) settings.b = structuredClone(settings.a);
  edit(on ? "b" : "a");
}

function showSides(): void {
  byId("sides").hidden = !comparing;
  byId("compare").setAttribute("aria-pressed", comparing ? "true" : "false");
  byId("run").textContent = comparing ? "Compare A and B" : "Recommend";
  const radio = document.querySelector<HTMLInputElement>(`[name=side][value=${editing}]`);
  if (radio !== null) radio.checked = true;
}

/** Writes what is asked into the address, so that it can be sent to somebody. */
function remember(): void {
  const b = comparing ? `&${B}${encodeURIComponent(written(settings.b))}` : "";
  history.replaceState(null, "", `#${written(settings.a) || "limit=10"}${b}`);
}

function recall(): void {
  const [a = "", b] = location.hash.slice(1).split(`&${B}`);
  settings.a = read(a);
  settings.b = read(b === undefined ? "" : decodeURIComponent(b));
  comparing = b !== undefined;
  editing = comparing ? "b" : "a";
  showSides();
  // Filters are written once it is known what the bundle has.
  if (schema !== undefined) form.write(settings[editing]);
}

function rememberUser(user: string): void {
  const known: string[] = JSON.parse(sessionStorage.getItem(USERS) ?? "[]");
  const users = [user, ...known.filter((one) => one !== user)].slice(0, 20);
  sessionStorage.setItem(USERS, JSON.stringify(users));
  offerUsers(users);
}

function offerUsers(users: string[]): void {
  byId("users").replaceChildren(...users.map((user) => h("option", { value: user })));
}

function choose(view: "list" | "talk"): void {
  byId("list-view").hidden = view !== "list";
  byId("talk").hidden = view !== "talk";
  document.body.classList.toggle("talking", view === "talk");
  for (const each of ["list", "talk"]) {
    byId(`view-${each}`).setAttribute("aria-selected", each === view ? "true" : "false");
    byId(`view-${each}`).tabIndex = each === view ? 0 : -1;
  }
  if (view === "talk") {
    const user = byId<HTMLInputElement>("talk-user");
    if (user.value === "") user.value = byId<HTMLInputElement>("user").value;
  }
}

document.querySelector(".skip")?.addEventListener("click", (event) => {
  // The address has what is asked; it stays as it is.
  event.preventDefault();
  byId("answers").focus();
});
byId("form").addEventListener("input", () => {
  touched = true;
});
byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  void run();
});
byId("compare").addEventListener("click", () => compare(!comparing));
byId("reset").addEventListener("click", () => {
  form.write(structuredClone(DEFAULTS));
  byId("user").focus();
});
for (const radio of document.querySelectorAll<HTMLInputElement>("[name=side]")) {
  radio.addEventListener("change", () => edit(radio.value as Side));
}
byId("view-list").addEventListener("click", () => choose("list"));
byId("view-talk").addEventListener("click", () => choose("talk"));
moveByArrows(byId("views"), [byId("view-list"), byId("view-talk")]);
document.addEventListener("keydown", (event) => {
  const typing = /^(INPUT|TEXTAREA|SELECT)$/.test((event.target as HTMLElement).tagName);
  if (event.key === "/" && !typing) {
    event.preventDefault();
    byId(byId("talk").hidden ? "user" : "said").focus();
  }
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && byId("talk").hidden) void run();
  if (event.key === "Escape") running?.abort();
});

offerUsers(JSON.parse(sessionStorage.getItem(USERS) ?? "[]"));
// Another address of this page, typed or chosen from the history.
addEventListener("hashchange", () => {
  recall();
  touched = false;
  void run();
});
form.write(structuredClone(DEFAULTS));
recall();
void connect();
