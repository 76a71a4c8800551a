package shortlist

import "google.golang.org/grpc/codes"

// kind is a kind of errors, to be compared by errors.Is: an error is of its kind and of all those above it.
type kind struct {
	text   string
	parent error
}

func (k *kind) Error() string { return "shortlist: " + k.text }

func (k *kind) Unwrap() error { return k.parent }

func family(text string) error { return &kind{text: text} }

func below(parent error, text string) error { return &kind{text, parent} }

// Families of errors. A reason or a status that this version does not know is of the nearest one.
var (
	// ErrInvalidRequest is a request that cannot be answered because of what it says: a retry gives the same error.
	ErrInvalidRequest = family("the request is invalid")
	// ErrUnauthenticated is a call by somebody whom the server does not know.
	ErrUnauthenticated = family("the caller is not known")
	// ErrPermissionDenied is a call that its caller may not make.
	ErrPermissionDenied = family("the caller may not make this call")
	// ErrNotFound is a query for something that the server does not know.
	ErrNotFound = family("not found")
	// ErrDeadlineExceeded is a call whose time was gone before the answer came.
	ErrDeadlineExceeded = family("out of time")
	// ErrOverloaded is a call that the server is too busy for, after the client's own retries: come back after RetryDelay.
	ErrOverloaded = family("too busy")
	// ErrUnavailable is a call that nobody answers, after the client's own retries.
	ErrUnavailable = family("nobody answers")
	// ErrBundleRefused is a bundle that cannot be switched to: what serves is as it was.
	ErrBundleRefused = family("the bundle cannot be switched to")
	// ErrInternal is a fault of the server: its log has the cause under the RequestID.
	ErrInternal = family("a fault of the server")
	// ErrClosed is a call of a client that is closed.
	ErrClosed = family("the client is closed")
)

// Invalid requests.
var (
	// ErrFieldRequired is a required field that is not set.
	ErrFieldRequired = below(ErrInvalidRequest, "a required field is not set")
	// ErrOutOfRange is a number, a length or a count out of its range.
	ErrOutOfRange = below(ErrInvalidRequest, "out of range")
	// ErrInvalidValue is a value that is not what its field takes.
	ErrInvalidValue = below(ErrInvalidRequest, "a value is not what its field takes")
	// ErrDimensionMismatch is an embedding of another dimension than the bundle's.
	ErrDimensionMismatch = below(ErrInvalidRequest, "an embedding has another dimension")
	// ErrFeatureTypeMismatch is a feature of another type than the bundle declares.
	ErrFeatureTypeMismatch = below(ErrInvalidRequest, "a feature has another type")
	// ErrUnknownFeature is a feature that the bundle does not declare, in a strict request.
	ErrUnknownFeature = below(ErrInvalidRequest, "the feature is not known")
	// ErrUnknownAttribute is an attribute that the bundle does not declare; in `attributes` only of strict requests.
	ErrUnknownAttribute = below(ErrInvalidRequest, "the attribute is not known")
	// ErrAttributeTypeMismatch is an attribute compared with what its type cannot be compared with.
	ErrAttributeTypeMismatch = below(ErrInvalidRequest, "an attribute has another type")
	// ErrUnknownItem is an item that the bundle does not have, in a strict request.
	ErrUnknownItem = below(ErrInvalidRequest, "the item is not known")
	// ErrUnknownOutput is an output that the ranker does not have.
	ErrUnknownOutput = below(ErrInvalidRequest, "the ranker has no such output")
	// ErrUnknownSource is a source that the bundle does not configure.
	ErrUnknownSource = below(ErrInvalidRequest, "the source is not known")
	// ErrExcludedItemRequested is an item both asked for and excluded.
	ErrExcludedItemRequested = below(ErrInvalidRequest, "an item is both asked for and excluded")
	// ErrIdempotencyKeyReused is the idempotency key of an earlier call beside another request.
	ErrIdempotencyKeyReused = below(ErrInvalidRequest, "the idempotency key was used before")
	// ErrMessageTooLarge is a request, or an answer, larger than a message may be. It has no Reason.
	ErrMessageTooLarge = below(ErrInvalidRequest, "the message is too large")
)

// Kinds below the other families, and kinds of their own.
var (
	// ErrAPIKeyMissing is a call without the API key that the server wants.
	ErrAPIKeyMissing = below(ErrUnauthenticated, "the API key is missing")
	// ErrAPIKeyInvalid is an API key that is not one of the server's.
	ErrAPIKeyInvalid = below(ErrUnauthenticated, "the API key is not valid")
	// ErrScopeMissing is a call that the API key does not open; Scope says what would.
	ErrScopeMissing = below(ErrPermissionDenied, "the API key lacks a scope")
	// ErrRateLimited is an API key used more often than it may be.
	ErrRateLimited = below(ErrOverloaded, "the API key is used too often")
	// ErrShuttingDown is a server that is stopping.
	ErrShuttingDown = below(ErrUnavailable, "the server is stopping")
	// ErrRevisionNotReached is a revision of the catalogue that the server does not see yet.
	ErrRevisionNotReached = below(ErrUnavailable, "the revision is not reached yet")
	// ErrCatalogUnavailable is a store of the catalogue that cannot be read or written now.
	ErrCatalogUnavailable = below(ErrUnavailable, "the store of the catalogue is not available")
	// ErrTextEmbedderUnavailable is a service that embeds texts and does not answer the server now.
	ErrTextEmbedderUnavailable = below(ErrUnavailable, "the text cannot be embedded now")
	// ErrConversationNotFound is a conversation that the server does not keep for this caller: begin a new one.
	ErrConversationNotFound = below(ErrNotFound, "the conversation is not known")
	// ErrBundleMissing is a bundle that is not where bundles come from.
	ErrBundleMissing = below(ErrBundleRefused, "there is no such bundle")
	// ErrBundleCorrupt is a bundle with a file that is not what its manifest says.
	ErrBundleCorrupt = below(ErrBundleRefused, "the bundle is damaged")
	// ErrBundleUnsupported is a bundle of a format that the server does not know.
	ErrBundleUnsupported = below(ErrBundleRefused, "the server does not know the bundle's format")
	// ErrParity is a bundle whose models give other numbers than in training.
	ErrParity = below(ErrBundleRefused, "the bundle's models give other numbers than in training")
	// ErrModelSignatureMismatch is a bundle with a model that is not what the manifest declares, or fails.
	ErrModelSignatureMismatch = below(ErrBundleRefused, "a model is not what the manifest declares")
	// ErrCatalogReadOnly is a change of items at a server that has no store for it.
	ErrCatalogReadOnly = family("items cannot be changed")
	// ErrLabelNotLoaded is a label that no bundle has.
	ErrLabelNotLoaded = family("no bundle has the label")
	// ErrNotConfigured is a call that the server is not set up for; Metadata["setting"] is what to set.
	ErrNotConfigured = family("the server is not set up for the call")
	// ErrSwitchUnderWay is a call during a switch to another bundle.
	ErrSwitchUnderWay = family("another bundle is being switched to")
)

var byReason = map[string]error{
	"FIELD_REQUIRED":            ErrFieldRequired,
	"OUT_OF_RANGE":              ErrOutOfRange,
	"INVALID_VALUE":             ErrInvalidValue,
	"DIMENSION_MISMATCH":        ErrDimensionMismatch,
	"FEATURE_TYPE_MISMATCH":     ErrFeatureTypeMismatch,
	"UNKNOWN_FEATURE":           ErrUnknownFeature,
	"UNKNOWN_ATTRIBUTE":         ErrUnknownAttribute,
	"UNKNOWN_ITEM":              ErrUnknownItem,
	"UNKNOWN_OUTPUT":            ErrUnknownOutput,
	"EXCLUDED_ITEM_REQUESTED":   ErrExcludedItemRequested,
	"DEADLINE_EXCEEDED":         ErrDeadlineExceeded,
	"OVERLOADED":                ErrOverloaded,
	"SHUTTING_DOWN":             ErrShuttingDown,
	"INTERNAL":                  ErrInternal,
	"ATTRIBUTE_TYPE_MISMATCH":   ErrAttributeTypeMismatch,
	"UNKNOWN_SOURCE":            ErrUnknownSource,
	"API_KEY_MISSING":           ErrAPIKeyMissing,
	"API_KEY_INVALID":           ErrAPIKeyInvalid,
	"SCOPE_MISSING":             ErrScopeMissing,
	"RATE_LIMITED":              ErrRateLimited,
	"IDEMPOTENCY_KEY_REUSED":    ErrIdempotencyKeyReused,
	"CATALOG_UNAVAILABLE":       ErrCatalogUnavailable,
	"TEXT_EMBEDDER_UNAVAILABLE": ErrTextEmbedderUnavailable,
	"REVISION_NOT_REACHED":      ErrRevisionNotReached,
	"CATALOG_READ_ONLY":         ErrCatalogReadOnly,
	"LABEL_NOT_LOADED":          ErrLabelNotLoaded,
	"BUNDLE_MISSING":            ErrBundleMissing,
	"BUNDLE_CORRUPT":            ErrBundleCorrupt,
	"BUNDLE_UNSUPPORTED":        ErrBundleUnsupported,
	"PARITY":                    ErrParity,
	"MODEL_SIGNATURE_MISMATCH":  ErrModelSignatureMismatch,
	"NOT_CONFIGURED":            ErrNotConfigured,
	"SWITCH_UNDER_WAY":          ErrSwitchUnderWay,
	"CONVERSATION_NOT_FOUND":    ErrConversationNotFound,
}

var byCode = map[codes.Code]error{
	codes.InvalidArgument:   ErrInvalidRequest,
	codes.Unauthenticated:   ErrUnauthenticated,
	codes.PermissionDenied:  ErrPermissionDenied,
	codes.NotFound:          ErrNotFound,
	codes.DeadlineExceeded:  ErrDeadlineExceeded,
	codes.ResourceExhausted: ErrOverloaded,
	codes.Unavailable:       ErrUnavailable,
	codes.Internal:          ErrInternal,
	codes.DataLoss:          ErrInternal,
	// What a Python server answers when a handler raises something that nobody caught.
	codes.Unknown: ErrInternal,
}
