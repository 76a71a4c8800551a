package shortlist_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	shortlist "github.com/shortlist-dev/shortlist/clients/go"
	pb "github.com/shortlist-dev/shortlist/clients/go/shortlist/v1"
)

// realServers says where the servers of tests/vector_server.py are, and which API keys there are.
type realServers struct {
	Servers map[string]string `json:"servers"`
	Keys    map[string]string `json:"keys"`
}

var stopServers = func() {}

func TestMain(m *testing.M) {
	code := m.Run()
	stopServers()
	os.Exit(code)
}

// startServers starts real servers, once; they end with the tests.
func startServers(t *testing.T) realServers {
	t.Helper()
	found, err := startOnce()
	if err != nil {
		t.Fatal(err)
	}
	return found
}

var startOnce = sync.OnceValues(func() (realServers, error) {
	var found realServers
	python := os.Getenv("SHORTLIST_PYTHON")
	if python == "" {
		python = filepath.Join(root, ".venv/bin/python")
	}
	command := exec.Command(python, filepath.Join(root, "tests/vector_server.py"))
	// It ends when its standard input does, however this process ends.
	input, err := command.StdinPipe()
	if err != nil {
		return found, err
	}
	output, err := command.StdoutPipe()
	if err != nil {
		return found, err
	}
	if err := command.Start(); err != nil {
		return found, fmt.Errorf("the tests want a server, which `make .venv/.installed` installs: %w", err)
	}
	stopServers = func() {
		_ = input.Close()
		_ = command.Wait()
	}
	line, err := bufio.NewReader(output).ReadBytes('\n')
	if err != nil {
		return found, fmt.Errorf("tests/vector_server.py said nothing: %w", err)
	}
	return found, json.Unmarshal(line, &found)
})

// root is the folder of the repository.
const root = "../.."

// fake is a server of which a test says what it does. It counts calls, and keeps what came with the last one.
type fake struct {
	pb.UnimplementedRecommendationServiceServer
	pb.UnimplementedBundleServiceServer

	recommend func(ctx context.Context, call int) (*pb.RecommendResponse, error)
	stream    func(stream grpc.ServerStreamingServer[pb.StreamRecommendResponse], call int) error
	rollBack  func(call int) error

	target string

	mutex    sync.Mutex
	calls    []time.Time
	metadata metadata.MD
	left     time.Duration
}

func (f *fake) began(ctx context.Context) int {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.calls = append(f.calls, time.Now())
	f.metadata, _ = metadata.FromIncomingContext(ctx)
	if deadline, ok := ctx.Deadline(); ok {
		f.left = time.Until(deadline)
	}
	return len(f.calls)
}

// times returns when each call came.
func (f *fake) times() []time.Time {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return slices.Clone(f.calls)
}

func (f *fake) callCount() int { return len(f.times()) }

// timeLeft returns how much time the last call had.
func (f *fake) timeLeft() time.Duration {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return f.left
}

func (f *fake) sent(name string) []string {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return f.metadata.Get(name)
}

func (f *fake) Recommend(ctx context.Context, _ *pb.RecommendRequest) (*pb.RecommendResponse, error) {
	call := f.began(ctx)
	if f.recommend == nil {
		return answerOf(call), nil
	}
	return f.recommend(ctx, call)
}

func (f *fake) StreamRecommend(
	_ *pb.StreamRecommendRequest, stream grpc.ServerStreamingServer[pb.StreamRecommendResponse],
) error {
	return f.stream(stream, f.began(stream.Context()))
}

func (f *fake) RollBackBundle(ctx context.Context, _ *pb.RollBackBundleRequest) (*pb.RollBackBundleResponse, error) {
	return nil, f.rollBack(f.began(ctx))
}

// answerOf is an answer that says which call it is of.
func answerOf(call int) *pb.RecommendResponse {
	return &pb.RecommendResponse{Info: &pb.AnswerInfo{CatalogRevision: int64(call)}}
}

// serve starts a server of a test, which ends with it.
func serve(t *testing.T, f *fake, options ...grpc.ServerOption) *fake {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(options...)
	pb.RegisterRecommendationServiceServer(server, f)
	pb.RegisterBundleServiceServer(server, f)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	f.target = listener.Addr().String()
	return f
}

// dial returns a client, which is closed with the test.
func dial(t *testing.T, target string, options ...shortlist.Option) *shortlist.Client {
	t.Helper()
	// Machines of CI are slow: no test waits for the default to be over.
	client, err := shortlist.New(target, append([]shortlist.Option{shortlist.WithTimeout(30 * time.Second)}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// failure is an error as a server sends it; without a delay where that is 0.
func failure(code codes.Code, reason string, delay time.Duration) error {
	details := []protoadapt.MessageV1{
		protoadapt.MessageV1Of(&errdetails.ErrorInfo{Reason: reason, Domain: "shortlist", Metadata: map[string]string{"got": "9"}}),
	}
	if delay != 0 {
		details = append(details, protoadapt.MessageV1Of(&errdetails.RetryInfo{RetryDelay: durationpb.New(delay)}))
	}
	told, err := status.New(code, "what is wrong").WithDetails(details...)
	if err != nil {
		panic(err)
	}
	return told.Err()
}

var someone = &pb.RecommendRequest{Query: shortlist.ForUser("u1")}
