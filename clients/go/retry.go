package shortlist

import (
	"context"
	"errors"
	"io"
	"iter"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
)

// attemptsMax is how often a call is made that the server is too busy for.
const attemptsMax = 4

// unary makes a call of one answer.
func unary[Request, Response any](
	ctx context.Context,
	client *Client,
	method func(context.Context, *Request, ...grpc.CallOption) (*Response, error),
	request *Request,
	options []grpc.CallOption,
) (*Response, error) {
	ctx, cancel, call := client.begin(ctx, client.timeout)
	defer cancel()
	var trailer metadata.MD
	options = append([]grpc.CallOption{grpc.Trailer(&trailer)}, options...)
	for attempt := 1; ; attempt++ {
		trailer = nil
		response, err := method(ctx, request, options...)
		if err == nil {
			return response, nil
		}
		failure := call.explain(err, trailer)
		if !waitAfter(ctx, failure, attempt) {
			return nil, failure
		}
	}
}

// stream makes a call of many answers each time that the sequence is looped over.
func stream[Request, Response any](
	ctx context.Context,
	client *Client,
	timeout time.Duration,
	method func(context.Context, *Request, ...grpc.CallOption) (grpc.ServerStreamingClient[Response], error),
	request *Request,
	options []grpc.CallOption,
) iter.Seq2[*Response, error] {
	return func(yield func(*Response, error) bool) {
		ctx, cancel, call := client.begin(ctx, timeout)
		defer cancel()
		// Without a deadline of its own the call would go on after the loop was left.
		ctx, leave := context.WithCancel(ctx)
		defer leave()
		for attempt := 1; ; attempt++ {
			responses, err := method(ctx, request, options...)
			var trailer metadata.MD
			begun := false
			for err == nil {
				var response *Response
				if response, err = responses.Recv(); err == nil {
					begun = true
					if !yield(response, nil) {
						return
					}
				}
			}
			if errors.Is(err, io.EOF) {
				return
			}
			if responses != nil {
				trailer = responses.Trailer()
			}
			failure := call.explain(err, trailer)
			// What was yielded cannot be taken back.
			if begun || !waitAfter(ctx, failure, attempt) {
				yield(nil, failure)
				return
			}
		}
	}
}

// waitAfter waits as long as a server asks that is too busy, and up to a quarter longer, so that not all come back at once.
// It returns false, at once, where the call is not to be made again: it failed otherwise, or its time would be over.
//
// A service config could not do it: it reads the delay from a header and not from RetryInfo, and sleeps through a deadline
// that comes before, which then is all that the caller is told.
func waitAfter(ctx context.Context, failure *Error, attempt int) bool {
	if failure.Code != codes.ResourceExhausted || failure.RetryDelay <= 0 || attempt >= attemptsMax {
		return false
	}
	delay := failure.RetryDelay + rand.N(failure.RetryDelay/4+1)
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= delay {
		return false
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
