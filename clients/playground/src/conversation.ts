// The conversation: turns, what was understood, the items, and the reply as it comes.
import { create } from "@bufbuild/protobuf";
import {
  AttributeComparison,
  type ConversationState,
  type ConverseRequest,
  ConverseRequestSchema,
  TurnAction,
  type TurnEnd,
  type TurnItems,
  type Understanding,
} from "../../typescript/src/gen/shortlist/v1/conversation_pb.js";
import { DegradedReason } from "../../typescript/src/gen/shortlist/v1/types_pb.js";
import { degradation } from "./answer.js";
import { byId, h, shownMs } from "./element.js";
import { msOf, serverMs } from "./funnel.js";
import { kinds, poster } from "./items.js";
import { textsOf, titleOf, yearOf } from "./schema.js";
import { adviceOf, conversations, type Failure, failureOf } from "./server.js";

const TURN_MS = 60_000;
const OPENINGS = ["Something for a long, dark night", "Something light, with the children", "What you like best"];
const ANSWERS = ["Not that one", "Something older", "Why the first?", "Swap the second"];
const SIGNS: Partial<Record<AttributeComparison, string>> = {
  [AttributeComparison.IS]: "is",
  [AttributeComparison.IS_NOT]: "is not",
  [AttributeComparison.AT_LEAST]: "from",
  [AttributeComparison.AT_MOST]: "up to",
};

export class Conversation {
  private state: ConversationState | undefined;
  private running: AbortController | undefined;
  private readonly turns = byId("turns");

  /**
   * @param took takes how long a turn took, in milliseconds, and how long the server's funnel.
   * @param refused is told of a failure that the whole page is concerned by.
   */
  constructor(
    private readonly took: (here: number, server: number) => void,
    private readonly refused: (failure: Failure) => void,
  ) {
    byId("talk-form").addEventListener("submit", (event) => {
      event.preventDefault();
      void this.say(byId<HTMLTextAreaElement>("said").value.trim());
    });
    byId("said").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey) {
        event.preventDefault();
        byId<HTMLFormElement>("talk-form").requestSubmit();
      }
    });
    byId("talk-stop").addEventListener("click", () => this.stop());
    byId("talk-new").addEventListener("click", () => this.begin());
    this.begin();
  }

  stop(): void {
    this.running?.abort();
  }

  private begin(): void {
    this.stop();
    this.state = undefined;
    this.turns.replaceChildren(
      h(
        "p",
        { class: "empty" },
        "Say what you would like. A language model reads it and words the reply; the funnel chooses the items.",
      ),
    );
    this.suggest(OPENINGS);
  }

  /** Offers what could be said next. */
  private suggest(ideas: string[]): void {
    byId("ideas").replaceChildren(
      ...ideas.map((idea) => {
        const button = h("button", { type: "button", class: "idea" }, idea);
        button.addEventListener("click", () => void this.say(idea));
        return button;
      }),
    );
  }

  private async say(text: string): Promise<void> {
    if (text === "" || this.running !== undefined) return;
    const input = byId<HTMLTextAreaElement>("said");
    input.value = "";
    this.turns.querySelector(".empty")?.remove();
    const turn = new Turn(text);
    this.turns.append(turn.element);
    this.running = new AbortController();
    this.busy(true);
    const begin = performance.now();
    let funnelMs = 0;
    const waiting = setInterval(() => {
      turn.wait(performance.now() - begin);
      this.follow();
    }, 250);
    try {
      const options = { signal: this.running.signal, timeoutMs: TURN_MS };
      for await (const { part } of conversations.converse(this.request(text), options)) {
        if (part.case === "understanding") turn.understood(part.value);
        if (part.case === "items") {
          funnelMs = serverMs(part.value.info?.stages ?? []);
          turn.show(part.value);
        }
        if (part.case === "reply") turn.reply(part.value.text, part.value.replaces);
        if (part.case === "end") {
          this.suggest(ANSWERS);
          if (part.value.conversation.case === "state") this.state = part.value.conversation.value;
          const here = performance.now() - begin;
          turn.end(part.value, here);
          this.took(here, funnelMs + serverMs(part.value.stages));
        }
        this.follow();
      }
    } catch (cause) {
      const failure = failureOf(cause);
      turn.fail(failure);
      if (input.value === "") input.value = text;
      this.refused(failure);
    } finally {
      clearInterval(waiting);
      this.running = undefined;
      this.busy(false);
      this.follow();
    }
  }

  private request(text: string): ConverseRequest {
    const id = byId<HTMLInputElement>("talk-user").value.trim();
    return create(ConverseRequestSchema, {
      text,
      ...(id !== "" && { query: { kind: { case: "user", value: { id } } } }),
      ...(this.state !== undefined && { conversation: { case: "state", value: this.state } }),
      limit: Math.trunc(Number(byId<HTMLInputElement>("talk-limit").value)) || 0,
      attributes: ["*"],
    });
  }

  private busy(is: boolean): void {
    byId("talk-stop").hidden = !is;
    byId("say").hidden = is;
    byId("ideas").hidden = is;
    this.turns.setAttribute("aria-busy", is ? "true" : "false");
    if (!is) byId("said").focus();
  }

  private follow(): void {
    this.turns.scrollTop = this.turns.scrollHeight;
  }
}

class Turn {
  readonly element: HTMLElement;
  private readonly about = h("p", { class: "understood muted" });
  private readonly items = h("ol", { class: "turn-items" });
  private readonly words = h("p", { class: "reply" });
  private readonly foot = h("p", { class: "muted foot" });
  private said = "";
  private ended = false;

  constructor(text: string) {
    this.element = h(
      "div",
      { class: "turn" },
      h("p", { class: "said" }, h("span", { class: "hidden" }, "You: "), text),
      h("div", { class: "told" }, this.about, this.items, this.words, this.foot),
    );
  }

  /** Says how long it has been, for models may be slow. */
  wait(ms: number): void {
    if (this.ended) return;
    const at = this.items.childElementCount > 0 ? "wording the reply" : "reading what you said";
    this.foot.textContent = `The server is ${at}… ${shownMs(ms)}`;
  }

  understood(value: Understanding): void {
    const conditions = value.conditions.map(
      (one) =>
        `${one.attribute} ${SIGNS[one.comparison] ?? "?"} ${one.values.flatMap((each) => textsOf(each)).join(" or ")}`,
    );
    const dropped = value.droppedConditions.map((one) => `${one.attribute}: ${one.problem}`);
    this.about.replaceChildren(
      h("span", { class: "chip" }, TurnAction[value.action].toLowerCase()),
      ...(value.taste === "" ? [] : [h("span", { class: "chip" }, `“${value.taste}”`)]),
      ...conditions.map((text) => h("span", { class: "chip" }, text)),
      ...dropped.map((text) => h("span", { class: "chip warn" }, text)),
      ...(value.byLanguageModel ? [] : [h("span", { class: "chip warn" }, "taken as it was said")]),
    );
  }

  show({ items }: TurnItems): void {
    this.items.replaceChildren(
      ...items.map((item) =>
        h(
          "li",
          {},
          poster(item),
          h("div", {}, h("p", { class: "title" }, h("b", {}, titleOf(item)), ` ${yearOf(item)}`), kinds(item)),
        ),
      ),
    );
    if (items.length === 0) this.items.append(h("li", { class: "empty" }, "Nothing fits all that."));
  }

  reply(text: string, replaces: boolean): void {
    this.said = replaces ? text : this.said + text;
    this.words.textContent = this.said;
  }

  end(end: TurnEnd, tookMs: number): void {
    this.ended = true;
    this.words.textContent = end.reply;
    const model = end.languageModel;
    const parts = [
      shownMs(tookMs),
      ...end.stages.map((stage) => `${stage.name} ${shownMs(msOf(stage))}`),
      ...(model === undefined
        ? []
        : [`${model.model}: ${model.inputTokenCount} tokens in, ${model.outputTokenCount} out`]),
    ];
    this.foot.textContent = parts.join(" · ");
    if (end.degraded.length === 0) return;
    const none = model === undefined && end.degraded.some((one) => one.reason === DegradedReason.LLM_UNAVAILABLE);
    this.element.append(
      h(
        "div",
        { class: "notice warn" },
        none &&
          h("p", {}, "This server has no language model: your words are the taste, and the reply is a plain one."),
        h(
          "ul",
          {},
          ...end.degraded.map((one) =>
            h("li", {}, `${degradation(one.stage, one.source, one.reason)}: ${one.message}`),
          ),
        ),
      ),
    );
  }

  fail(failure: Failure): void {
    this.ended = true;
    this.foot.textContent = "";
    this.element.append(h("div", { class: "notice bad", role: "alert" }, h("p", {}, adviceOf(failure))));
  }
}
