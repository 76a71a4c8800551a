import type { MessageInitShape } from "@bufbuild/protobuf";
import { Caller, type CallOptions, type Connection } from "./calls.js";
import { ClientClosed } from "./errors.js";
import * as pb from "./messages.js";
import type { Settings } from "./settings.js";

const recommendation = pb.RecommendationService.method;
const conversation = pb.ConversationService.method;
const bundle = pb.BundleService.method;
const catalog = pb.CatalogService.method;

/**
 * A method for every RPC. Requests are the messages of the protos, or plain objects of their fields; the comments of the
 * messages say what each takes. Every error is a `ShortlistError`.
 *
 * The call of a stream begins with the loop over it. Leaving the loop ends the call, on the server too. Each loop over the
 * same stream makes a call of its own.
 */
export abstract class Client {
  readonly #caller: Caller;

  protected constructor(connection: Connection, settings: Settings) {
    this.#caller = new Caller(connection, settings);
  }

  /** Closes the connections. Calls that wait fail with ClientClosed, and so does every later one. */
  close(): void {
    const failure = { code: "CANCELLED", reason: pb.ErrorReason.UNSPECIFIED, requestId: "", metadata: {} } as const;
    this.#caller.close(new ClientClosed({ ...failure, message: "the client is closed" }));
  }

  /** Returns the few items that suit a query best: retrieval, ranking and selection. */
  recommend(
    request: MessageInitShape<typeof pb.RecommendRequestSchema>,
    options: CallOptions = {},
  ): Promise<pb.RecommendResponse> {
    return this.#caller.unary(recommendation.recommend, request, options);
  }

  /**
   * Yields a list as soon as it is ranked, and better ones as they are ready, each in place of the one before; the last one
   * is marked so.
   */
  streamRecommend(
    request: MessageInitShape<typeof pb.StreamRecommendRequestSchema>,
    options: CallOptions = {},
  ): AsyncIterable<pb.StreamRecommendResponse> {
    const { timeoutMs } = this.#caller.settings;
    return this.#caller.stream(recommendation.streamRecommend, request, options, timeoutMs);
  }

  /**
   * Yields the answers to up to 1,024 requests, as they are ready; each says by its index which row it answers. `rowError`
   * makes an error of that of a row.
   */
  batchRecommend(
    request: MessageInitShape<typeof pb.BatchRecommendRequestSchema>,
    options: CallOptions = {},
  ): AsyncIterable<pb.BatchRecommendResponse> {
    const { timeoutMs } = this.#caller.settings;
    return this.#caller.stream(recommendation.batchRecommend, request, options, timeoutMs);
  }

  /** Returns candidates only, best retrieval score first: no ranking. */
  retrieve(
    request: MessageInitShape<typeof pb.RetrieveRequestSchema>,
    options: CallOptions = {},
  ): Promise<pb.RetrieveResponse> {
    return this.#caller.unary(recommendation.retrieve, request, options);
  }

  /** Returns scores of the items that the caller names, best first. */
  rank(request: MessageInitShape<typeof pb.RankRequestSchema>, options: CallOptions = {}): Promise<pb.RankResponse> {
    return this.#caller.unary(recommendation.rank, request, options);
  }

  /** Returns the items nearest to one item. */
  findSimilarItems(
    request: MessageInitShape<typeof pb.FindSimilarItemsRequestSchema>,
    options: CallOptions = {},
  ): Promise<pb.FindSimilarItemsResponse> {
    return this.#caller.unary(recommendation.findSimilarItems, request, options);
  }

  /**
   * Yields the answer to one turn of a conversation: what was understood, the items, the reply piece by piece, and the end
   * with what the next turn must send.
   */
  converse(
    request: MessageInitShape<typeof pb.ConverseRequestSchema>,
    options: CallOptions = {},
  ): AsyncIterable<pb.ConverseResponse> {
    return this.#caller.stream(conversation.converse, request, options, this.#caller.settings.turnTimeoutMs);
  }

  /**
   * Returns the bundles that can be switched to, and those that serve. Ones that the server has not seen are verified first:
   * give it time.
   */
  listBundles(
    request: MessageInitShape<typeof pb.ListBundlesRequestSchema> = {},
    options: CallOptions = {},
  ): Promise<pb.ListBundlesResponse> {
    return this.#caller.unary(bundle.listBundles, request, options);
  }

  /** Returns what is being served: its identity, size, features and attributes. */
  getActiveBundle(
    request: MessageInitShape<typeof pb.GetActiveBundleRequestSchema> = {},
    options: CallOptions = {},
  ): Promise<pb.GetActiveBundleResponse> {
    return this.#caller.unary(bundle.getActiveBundle, request, options);
  }

  /** Gives a label to a bundle, which then serves. That takes seconds to minutes: give it time. */
  activateBundle(
    request: MessageInitShape<typeof pb.ActivateBundleRequestSchema>,
    options: CallOptions = {},
  ): Promise<pb.ActivateBundleResponse> {
    return this.#caller.unary(bundle.activateBundle, request, options);
  }

  /**
   * Switches back to the bundle that had a label before. It is never made twice: where nobody answers, look at what serves.
   * Give it time.
   */
  rollBackBundle(
    request: MessageInitShape<typeof pb.RollBackBundleRequestSchema> = {},
    options: CallOptions = {},
  ): Promise<pb.RollBackBundleResponse> {
    return this.#caller.unary(bundle.rollBackBundle, request, options);
  }

  /** Takes a label away from the bundle that has it. Give it time. */
  deactivateBundle(
    request: MessageInitShape<typeof pb.DeactivateBundleRequestSchema>,
    options: CallOptions = {},
  ): Promise<pb.DeactivateBundleResponse> {
    return this.#caller.unary(bundle.deactivateBundle, request, options);
  }

  /**
   * Writes items. `rowError` makes an error of why one of them was refused. With an idempotency key it is applied once,
   * however often it is sent.
   */
  upsertItems(
    request: MessageInitShape<typeof pb.UpsertItemsRequestSchema>,
    options: CallOptions = {},
  ): Promise<pb.UpsertItemsResponse> {
    return this.#caller.unary(catalog.upsertItems, request, options);
  }

  /** Takes items away. */
  deleteItems(
    request: MessageInitShape<typeof pb.DeleteItemsRequestSchema>,
    options: CallOptions = {},
  ): Promise<pb.DeleteItemsResponse> {
    return this.#caller.unary(catalog.deleteItems, request, options);
  }

  /** Returns an item as it is served now. */
  getItem(
    request: MessageInitShape<typeof pb.GetItemRequestSchema>,
    options: CallOptions = {},
  ): Promise<pb.GetItemResponse> {
    return this.#caller.unary(catalog.getItem, request, options);
  }

  /** Returns how large the catalogue is, and how well it is searched. */
  getCatalogStats(
    request: MessageInitShape<typeof pb.GetCatalogStatsRequestSchema> = {},
    options: CallOptions = {},
  ): Promise<pb.GetCatalogStatsResponse> {
    return this.#caller.unary(catalog.getCatalogStats, request, options);
  }

  /** Returns whether the server, or one of its services, takes calls now. */
  check(
    request: MessageInitShape<typeof pb.HealthCheckRequestSchema> = {},
    options: CallOptions = {},
  ): Promise<pb.HealthCheckResponse> {
    return this.#caller.unary(pb.Health.method.check, request, options);
  }
}
