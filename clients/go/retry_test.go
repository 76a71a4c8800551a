package shortlist_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	shortlist "github.com/shortlist-dev/shortlist/clients/go"
	pb "github.com/shortlist-dev/shortlist/clients/go/shortlist/v1"
)

// failsFirst is a server that fails so often, and then answers.
func failsFirst(t *testing.T, times int, err error) *fake {
	return serve(t, &fake{
		recommend: func(_ context.Context, call int) (*pb.RecommendResponse, error) {
			if call <= times {
				return nil, err
			}
			return answerOf(call), nil
		},
		stream: func(stream grpc.ServerStreamingServer[pb.StreamRecommendResponse], call int) error {
			if call <= times {
				return err
			}
			return stream.Send(&pb.StreamRecommendResponse{Response: answerOf(call), Last: true})
		},
		rollBack: func(int) error { return err },
	})
}

func TestCallsThatNobodyAnsweredAreMadeAgain(t *testing.T) {
	server := failsFirst(t, 3, failure(codes.Unavailable, "SHUTTING_DOWN", 0))
	answer, err := dial(t, server.target).Recommend(t.Context(), someone)
	if err != nil || answer.GetInfo().GetCatalogRevision() != 4 {
		t.Errorf("expected the fourth call to be answered, got %v, %v", answer, err)
	}
	server = failsFirst(t, 9, failure(codes.Unavailable, "SHUTTING_DOWN", 0))
	if _, err = dial(t, server.target).Recommend(t.Context(), someone); !errors.Is(err, shortlist.ErrShuttingDown) {
		t.Errorf("got %v", err)
	}
	if calls := server.callCount(); calls != 4 {
		t.Errorf("expected 4 calls, got %d", calls)
	}
}

func TestRollBackIsNeverMadeAgain(t *testing.T) {
	server := failsFirst(t, 9, failure(codes.Unavailable, "SHUTTING_DOWN", 0))
	_, err := dial(t, server.target).RollBackBundle(t.Context(), &pb.RollBackBundleRequest{})
	if calls := server.callCount(); calls != 1 || !errors.Is(err, shortlist.ErrShuttingDown) {
		t.Errorf("expected one call, got %d, %v", calls, err)
	}
}

func TestBusyServerIsAskedAgainWhenItSays(t *testing.T) {
	const delay = 60 * time.Millisecond
	overloaded := failure(codes.ResourceExhausted, "OVERLOADED", delay)
	for name, ask := range map[string]func(*shortlist.Client) (int64, error){"unary": askOnce, "stream": askStream} {
		server := failsFirst(t, 2, overloaded)
		revision, err := ask(dial(t, server.target))
		if err != nil || revision != 3 {
			t.Errorf("%s: expected the third call to be answered, got %v, %v", name, revision, err)
		}
		times := server.times()
		for call := 1; call < len(times); call++ {
			if waited := times[call].Sub(times[call-1]); waited < delay {
				t.Errorf("%s: expected call %d to come after %v, got %v", name, call, delay, waited)
			}
		}
		server = failsFirst(t, 9, overloaded)
		if _, err = ask(dial(t, server.target)); !errors.Is(err, shortlist.ErrOverloaded) {
			t.Errorf("%s: got %v", name, err)
		}
		if calls := server.callCount(); calls != 4 {
			t.Errorf("%s: expected 4 calls, got %d", name, calls)
		}
	}
}

func TestBusyServerIsNotAskedAgainWhereItsDelayIsUnknownOrTooLong(t *testing.T) {
	for name, err := range map[string]error{
		"no delay":                failure(codes.ResourceExhausted, "OVERLOADED", 0),
		"longer than the timeout": failure(codes.ResourceExhausted, "RATE_LIMITED", time.Hour),
		"another status":          failure(codes.Internal, "INTERNAL", time.Millisecond),
	} {
		server := failsFirst(t, 9, err)
		_, err := dial(t, server.target).Recommend(t.Context(), someone)
		var failed *shortlist.Error
		if calls := server.callCount(); calls != 1 || !errors.As(err, &failed) || failed.Reason == 0 {
			t.Errorf("%s: expected one call and its error, got %d, %v", name, calls, err)
		}
	}
}

func TestCallerWhoGivesUpWhileItWaitsGetsTheServersError(t *testing.T) {
	server := failsFirst(t, 9, failure(codes.ResourceExhausted, "OVERLOADED", 20*time.Second))
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for server.callCount() == 0 {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(20 * time.Millisecond)
		cancel()
	}()
	if _, err := dial(t, server.target).Recommend(ctx, someone); err == nil {
		t.Error("expected an error")
	}
	if calls := server.callCount(); calls != 1 {
		t.Errorf("expected one call, got %d", calls)
	}
}

func askOnce(client *shortlist.Client) (int64, error) {
	answer, err := client.Recommend(context.Background(), someone)
	return answer.GetInfo().GetCatalogRevision(), err
}

func askStream(client *shortlist.Client) (int64, error) {
	var last *pb.StreamRecommendResponse
	for list, err := range client.StreamRecommend(context.Background(), streamed) {
		if err != nil {
			return 0, err
		}
		last = list
	}
	return last.GetResponse().GetInfo().GetCatalogRevision(), nil
}

var streamed = &pb.StreamRecommendRequest{Request: someone}

func TestStreamThatHasBegunIsNotMadeAgain(t *testing.T) {
	server := serve(t, &fake{stream: func(stream grpc.ServerStreamingServer[pb.StreamRecommendResponse], call int) error {
		if err := stream.Send(&pb.StreamRecommendResponse{Response: answerOf(call)}); err != nil {
			return err
		}
		return failure(codes.ResourceExhausted, "OVERLOADED", time.Millisecond)
	}})
	var lists int
	var failed error
	for list, err := range dial(t, server.target).StreamRecommend(t.Context(), streamed) {
		if err != nil {
			failed = err
			if list != nil {
				t.Error("expected no list beside an error")
			}
			continue
		}
		lists++
	}
	if lists != 1 || !errors.Is(failed, shortlist.ErrOverloaded) || server.callCount() != 1 {
		t.Errorf("expected a list and the error of one call, got %d, %v, %d", lists, failed, server.callCount())
	}
}

func TestLoopThatIsLeftEndsTheCallOnTheServer(t *testing.T) {
	ended := make(chan struct{})
	server := serve(t, &fake{stream: func(stream grpc.ServerStreamingServer[pb.StreamRecommendResponse], call int) error {
		if call == 1 {
			defer close(ended)
		}
		if err := stream.Send(&pb.StreamRecommendResponse{Response: answerOf(call)}); err != nil {
			return err
		}
		<-stream.Context().Done()
		return stream.Context().Err()
	}})
	lists := dial(t, server.target).StreamRecommend(t.Context(), streamed)
	if server.callCount() != 0 {
		t.Error("expected no call before the loop")
	}
	for range lists {
		break
	}
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Fatal("the call goes on")
	}
	for list, err := range lists {
		if err != nil || list.GetResponse().GetInfo().GetCatalogRevision() != 2 {
			t.Errorf("expected each loop to be a call of its own, got %v, %v", list, err)
		}
		break
	}
}

func TestTurnsOfConversationsHaveATimeoutOfTheirOwn(t *testing.T) {
	silent := serve(t, &fake{})
	client := dial(t, silent.target, shortlist.WithTimeout(time.Nanosecond), shortlist.WithTurnTimeout(time.Minute))
	for _, err := range client.Converse(t.Context(), &pb.ConverseRequest{Text: "Films"}) {
		var failed *shortlist.Error
		if !errors.As(err, &failed) || failed.Code != codes.Unimplemented {
			t.Errorf("expected the server's answer, got %v", err)
		}
	}
}
