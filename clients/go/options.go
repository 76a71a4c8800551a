package shortlist

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

const (
	// sendBytesMax is what the server accepts. Refusing more here saves sending it.
	sendBytesMax = 4 << 20
	// receiveBytesMax is four times gRPC's default: Retrieve of 4,096 items with all their attributes can exceed 4 MiB.
	receiveBytesMax = 16 << 20

	userAgent = "shortlist-go/0.1.0"
	keyHeader = "authorization"
)

// serviceConfig has calls go in turn to all addresses, and those that nobody answered made again after about 30, 90 and
// 270 ms, within the deadline. RollBackBundle stands alone: a second one would roll back the first. What the server is too
// busy for is made again by the client itself, see retry.go.
const serviceConfig = `{
  "loadBalancingConfig": [{"round_robin": {}}],
  "methodConfig": [
    {
      "name": [{}],
      "retryPolicy": {
        "maxAttempts": 4,
        "initialBackoff": "0.03s",
        "maxBackoff": "0.3s",
        "backoffMultiplier": 3,
        "retryableStatusCodes": ["UNAVAILABLE"]
      }
    },
    {"name": [{"service": "shortlist.v1.BundleService", "method": "RollBackBundle"}]}
  ]
}`

// sendable is what HTTP/2 takes as the value of a header, less spaces.
var sendable = regexp.MustCompile(`^[!-~]+$`)

// Option is a choice of New.
type Option func(*settings)

type settings struct {
	timeout      time.Duration
	turnTimeout  time.Duration
	tls          *tls.Config
	apiKey       *string
	plaintextKey bool
	more         []grpc.DialOption
}

// WithTimeout sets the deadline of calls whose context has none, retries included; turns of conversations have their own.
// The server plans with it: it is the budget of the whole funnel. DefaultTimeout unless set.
func WithTimeout(timeout time.Duration) Option {
	return func(s *settings) { s.timeout = timeout }
}

// WithTurnTimeout sets the deadline of turns of conversations whose context has none. DefaultTurnTimeout unless set.
func WithTurnTimeout(timeout time.Duration) Option {
	return func(s *settings) { s.turnTimeout = timeout }
}

// WithTLS encrypts. An empty configuration trusts the authorities of the system; RootCAs trusts others, Certificates show
// the server who calls. Plain text unless set.
func WithTLS(config *tls.Config) Option {
	return func(s *settings) {
		if config == nil {
			config = &tls.Config{}
		}
		s.tls = config
	}
}

// WithAPIKey sends a key, sl_..., with every call: in plain text only to this machine.
func WithAPIKey(key string) Option {
	return func(s *settings) { s.apiKey = &key }
}

// WithPlaintextKey has the API key sent in plain text to other machines, too: where something else encrypts.
func WithPlaintextKey() Option {
	return func(s *settings) { s.plaintextKey = true }
}

// WithDialOptions adds options of gRPC, which win over the client's own: interceptors, stats handlers, limits.
func WithDialOptions(options ...grpc.DialOption) Option {
	return func(s *settings) { s.more = append(s.more, options...) }
}

func (s *settings) dialOptions(target string) ([]grpc.DialOption, error) {
	for field, timeout := range map[string]time.Duration{"timeout": s.timeout, "turn timeout": s.turnTimeout} {
		if timeout <= 0 {
			return nil, refused(field, "more than 0", timeout.String())
		}
	}
	transport := insecure.NewCredentials()
	if s.tls != nil {
		transport = credentials.NewTLS(s.tls)
	}
	reconnect := backoff.DefaultConfig
	// gRPC's defaults, 1 s rising to 120 s, keep calls failing for up to two minutes after a server is back.
	reconnect.BaseDelay, reconnect.MaxDelay = 100*time.Millisecond, 5*time.Second
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallSendMsgSize(sendBytesMax), grpc.MaxCallRecvMsgSize(receiveBytesMax),
		),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: reconnect, MinConnectTimeout: 5 * time.Second}),
		grpc.WithUserAgent(userAgent),
	}
	if s.apiKey != nil {
		if err := s.checkKey(target); err != nil {
			return nil, err
		}
		options = append(options, grpc.WithPerRPCCredentials(bearer(*s.apiKey)))
	}
	return append(options, s.more...), nil
}

// checkKey returns why the key cannot be sent, or must not be. No message shows it.
func (s *settings) checkKey(target string) error {
	if !sendable.MatchString(*s.apiKey) {
		return refused("API key", "printable ASCII without spaces, as sl_... is", "something else")
	}
	if s.tls == nil && !s.plaintextKey && !isLocal(target) {
		expected := fmt.Sprintf("TLS to %s, which is no address of this machine (WithTLS), or WithPlaintextKey", target)
		return refused("API key", expected, "plain text")
	}
	return nil
}

// isLocal returns whether a target is this machine by its name alone: nothing is looked up.
func isLocal(target string) bool {
	if strings.HasPrefix(target, "unix:") || strings.HasPrefix(target, "unix-abstract:") {
		return true
	}
	address := target
	for _, scheme := range []string{"dns:///", "dns:", "passthrough:///"} {
		if rest, found := strings.CutPrefix(target, scheme); found {
			address = rest
			break
		}
	}
	host := address
	if rest, found := strings.CutPrefix(address, "["); found {
		host, _, _ = strings.Cut(rest, "]")
	} else if strings.Count(address, ":") == 1 {
		host, _, _ = strings.Cut(address, ":")
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.IsLoopback()
	}
	return host == "localhost"
}

// bearer is an API key as gRPC's credentials.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{keyHeader: "Bearer " + string(b)}, nil
}

// RequireTransportSecurity is false, since New has refused plain text where it must not be.
func (bearer) RequireTransportSecurity() bool { return false }
