package shortlist

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pb "github.com/shortlist-dev/shortlist/clients/go/shortlist/v1"
)

const (
	domain       = "shortlist"
	reasonPrefix = "ERROR_REASON_"
)

// Error is how a call failed. Which kind it is, errors.Is tells:
//
//	var failure *shortlist.Error
//	switch {
//	case errors.Is(err, shortlist.ErrOverloaded):
//	case errors.As(err, &failure):
//		log.Print(failure.RequestID, failure.Field())
//	}
type Error struct {
	// Code is the gRPC status code.
	Code codes.Code
	// Reason is what the server says is wrong. Unspecified where it does not: then gRPC made the error, or something
	// between client and server; or where this version does not know it.
	Reason pb.ErrorReason
	// Message is for people. Its wording may change between versions.
	Message string
	// RequestID is the id of the call, as the server logs it.
	RequestID string
	// Metadata is what the server says of the reason: field, expected, got, stage, scope, ...
	Metadata map[string]string
	// RetryDelay is the time after which the server asks to be called again; 0 where it does not say.
	RetryDelay time.Duration

	kind  error
	cause error
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Unwrap returns what errors.Is and errors.As look at: the kind, one of the Err... values, and gRPC's own error.
func (e *Error) Unwrap() []error {
	var wrapped []error
	for _, err := range []error{e.kind, e.cause} {
		if err != nil {
			wrapped = append(wrapped, err)
		}
	}
	return wrapped
}

// Is returns whether package context would call it so: context.DeadlineExceeded, context.Canceled.
func (e *Error) Is(target error) bool {
	switch target {
	case context.DeadlineExceeded:
		return e.Code == codes.DeadlineExceeded
	case context.Canceled:
		return e.Code == codes.Canceled
	}
	return false
}

// GRPCStatus returns the status, for status.Code and status.FromError.
func (e *Error) GRPCStatus() *status.Status { return status.New(e.Code, e.Message) }

// Field returns the path of the field that is wrong: query.user.features["age"]. Empty where the error is of none.
func (e *Error) Field() string { return e.Metadata["field"] }

// Expected returns what the field takes.
func (e *Error) Expected() string { return e.Metadata["expected"] }

// Got returns what the field holds.
func (e *Error) Got() string { return e.Metadata["got"] }

// Stage returns the name of the stage that had no time left, where the server says it.
func (e *Error) Stage() string { return e.Metadata["stage"] }

// Scope returns the scope that the API key lacks; several, of which one is enough, are joined by " or ".
func (e *Error) Scope() string { return e.Metadata["scope"] }

// RowErr returns the error of one row of a batch, or of one item that was not written: what the row alone would have ended
// with. It returns nil for nil.
func RowErr(row *pb.RowError) error {
	if row == nil {
		return nil
	}
	code := codes.Code(row.GetCode())
	reason := strings.TrimPrefix(row.GetReason().String(), reasonPrefix)
	return &Error{
		Code:      code,
		Reason:    row.GetReason(),
		Message:   row.GetMessage(),
		RequestID: row.GetMetadata()["request_id"],
		Metadata:  row.GetMetadata(),
		kind:      kindOf(code, reason, row.GetMessage()),
	}
}

// refused returns the error by which the client refuses a field, just as the server would.
func refused(field, expected, got string) *Error {
	return &Error{
		Code:     codes.InvalidArgument,
		Reason:   pb.ErrorReason_ERROR_REASON_INVALID_VALUE,
		Message:  fmt.Sprintf("%s: expected %s, got %s", field, expected, got),
		Metadata: map[string]string{"field": field, "expected": expected, "got": got},
		kind:     ErrInvalidValue,
	}
}

// explain returns what gRPC's error of a call says.
func (c *call) explain(err error, trailer metadata.MD) *Error {
	answered, _ := status.FromError(err)
	info, delay := details(answered)
	failure := &Error{
		Code:       answered.Code(),
		Reason:     pb.ErrorReason(pb.ErrorReason_value[reasonPrefix+info.GetReason()]),
		Message:    answered.Message(),
		RequestID:  c.requestID,
		Metadata:   info.GetMetadata(),
		RetryDelay: delay,
		cause:      err,
	}
	if told := trailer.Get(requestIDKey); len(told) > 0 {
		failure.RequestID = told[0]
	}
	if info.GetReason() == "" {
		c.sayWhere(failure)
	}
	failure.kind = kindOf(failure.Code, info.GetReason(), failure.Message)
	if failure.Code == codes.Canceled && c.client.closed.Load() {
		failure.kind, failure.Message = ErrClosed, ErrClosed.Error()
	}
	return failure
}

// sayWhere gives an error that no Shortlist server wrote the target, which gRPC's lacks.
func (c *call) sayWhere(failure *Error) {
	target := c.client.target
	switch failure.Code {
	case codes.DeadlineExceeded:
		if c.timeout <= 0 {
			failure.Message = "the deadline was over before the call began"
			return
		}
		if c.client.conn.GetState() == connectivity.Ready {
			failure.Message = fmt.Sprintf("%s gave no answer within %v", target, c.timeout)
			return
		}
		// What a caller does about a server that is not there is not what he does about a slow one.
		failure.Code = codes.Unavailable
		failure.Message = fmt.Sprintf("%s is not available: no connection to it within %v", target, c.timeout)
	case codes.Unavailable:
		failure.Message = fmt.Sprintf("%s is not available: %s", target, failure.Message)
	}
}

func details(answered *status.Status) (*errdetails.ErrorInfo, time.Duration) {
	info, delay := &errdetails.ErrorInfo{}, time.Duration(0)
	for _, detail := range answered.Details() {
		switch found := detail.(type) {
		case *errdetails.ErrorInfo:
			if found.GetDomain() == domain {
				info = found
			}
		case *errdetails.RetryInfo:
			delay = found.GetRetryDelay().AsDuration()
		}
	}
	return info, delay
}

func kindOf(code codes.Code, reason, message string) error {
	// One reason for two situations: refused because strict, or nothing left to answer from.
	if reason == "UNKNOWN_ITEM" && code == codes.NotFound {
		return ErrNotFound
	}
	// gRPC has one code for "too busy" and "too large", and only its words tell them apart. It matters: the one is worth a
	// retry, the other never is.
	if code == codes.ResourceExhausted && strings.Contains(message, "message larger than max") {
		return ErrMessageTooLarge
	}
	if found, ok := byReason[reason]; ok {
		return found
	}
	return byCode[code]
}
