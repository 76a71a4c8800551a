package shortlist_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	shortlist "github.com/shortlist-dev/shortlist/clients/go"
	pb "github.com/shortlist-dev/shortlist/clients/go/shortlist/v1"
)

func TestDeadlineOfTheContextWinsOverTheClients(t *testing.T) {
	server := serve(t, &fake{})
	client := dial(t, server.target, shortlist.WithTimeout(time.Hour))
	if _, err := client.Recommend(t.Context(), someone); err != nil {
		t.Fatal(err)
	}
	if left := server.timeLeft(); left <= 50*time.Minute || left > time.Hour {
		t.Errorf("expected the client's hour, got %v", left)
	}
	for _, own := range []time.Duration{20 * time.Minute, 3 * time.Hour} {
		ctx, cancel := context.WithTimeout(t.Context(), own)
		defer cancel()
		if _, err := client.Recommend(ctx, someone); err != nil {
			t.Fatal(err)
		}
		if left := server.timeLeft(); left <= own-10*time.Minute || left > own {
			t.Errorf("expected the %v of the context, got %v", own, left)
		}
	}
}

func TestDefaultsOfDeadlines(t *testing.T) {
	server := serve(t, &fake{})
	client, err := shortlist.New(server.target)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	// Whatever became of the call on a slow machine: it did not have more time.
	_, _ = client.Recommend(t.Context(), someone)
	if left := server.timeLeft(); left > shortlist.DefaultTimeout {
		t.Errorf("expected at most %v, got %v", shortlist.DefaultTimeout, left)
	}
	if _, err := shortlist.New(server.target, shortlist.WithTimeout(0)); !errors.Is(err, shortlist.ErrInvalidValue) {
		t.Errorf("a timeout of 0: got %v", err)
	}
	if _, err := shortlist.New(server.target, shortlist.WithTurnTimeout(-1)); !errors.Is(err, shortlist.ErrInvalidValue) {
		t.Errorf("a negative timeout: got %v", err)
	}
}

func TestRequestIDsAreSentAndToldOf(t *testing.T) {
	server := serve(t, &fake{})
	client := dial(t, server.target)
	seen := map[string]bool{}
	for range 2 {
		if _, err := client.Recommend(t.Context(), someone); err != nil {
			t.Fatal(err)
		}
		id := server.sent("x-request-id")
		if len(id) != 1 || len(id[0]) != 32 || seen[id[0]] {
			t.Errorf("expected another id of 32 digits, got %v", id)
		}
		seen[id[0]] = true
	}
	if _, err := client.Recommend(shortlist.WithRequestID(t.Context(), "mine"), someone); err != nil {
		t.Fatal(err)
	}
	if id := server.sent("x-request-id"); len(id) != 1 || id[0] != "mine" {
		t.Errorf("expected mine, got %v", id)
	}
	nobody := dial(t, freePort(t))
	var failed *shortlist.Error
	if _, err := nobody.Recommend(shortlist.WithRequestID(t.Context(), "mine"), someone); !errors.As(err, &failed) {
		t.Fatal(err)
	}
	if failed.RequestID != "mine" {
		t.Errorf("expected mine, got %q", failed.RequestID)
	}
}

func TestAPIKeyIsSentWithEveryCall(t *testing.T) {
	server := serve(t, &fake{})
	client := dial(t, server.target, shortlist.WithAPIKey("sl_secret"))
	if _, err := client.Recommend(t.Context(), someone); err != nil {
		t.Fatal(err)
	}
	if sent := server.sent("authorization"); len(sent) != 1 || sent[0] != "Bearer sl_secret" {
		t.Errorf("got %v", sent)
	}
}

func TestAPIKeyIsNotSentInPlainTextToOtherMachines(t *testing.T) {
	key := shortlist.WithAPIKey("sl_secret")
	for _, target := range []string{"shop.example:8500", "dns:///10.0.0.1:8500", "[2001:db8::1]:8500", "localhost.example:1"} {
		_, err := shortlist.New(target, key)
		if !errors.Is(err, shortlist.ErrInvalidValue) || strings.Contains(err.Error(), "sl_secret") {
			t.Errorf("%s: got %v", target, err)
		}
		for _, allowed := range []shortlist.Option{shortlist.WithPlaintextKey(), shortlist.WithTLS(nil)} {
			dial(t, target, key, allowed)
		}
	}
	for _, target := range []string{"127.0.0.1:8500", "dns:///localhost:8500", "localhost", "[::1]:8500", "unix:/tmp/a"} {
		dial(t, target, key)
	}
	for _, unsendable := range []string{"", "two words", "line\nbreak", "umläut"} {
		_, err := shortlist.New("127.0.0.1:8500", shortlist.WithAPIKey(unsendable))
		if !errors.Is(err, shortlist.ErrInvalidValue) || (unsendable != "" && strings.Contains(err.Error(), unsendable)) {
			t.Errorf("%q: got %v", unsendable, err)
		}
	}
}

func TestTargetThatIsNoTargetIsRefused(t *testing.T) {
	if _, err := shortlist.New("%zz://shop"); !errors.Is(err, shortlist.ErrInvalidValue) {
		t.Errorf("got %v", err)
	}
}

func TestCallsGoToAllAddressesInTurn(t *testing.T) {
	servers := []*fake{serve(t, &fake{}), serve(t, &fake{}), serve(t, &fake{})}
	addresses := manual.NewBuilderWithScheme("shops")
	state := resolver.State{}
	for _, server := range servers {
		state.Addresses = append(state.Addresses, resolver.Address{Addr: server.target})
	}
	addresses.InitialState(state)
	client := dial(t, "shops:///all", shortlist.WithDialOptions(grpc.WithResolvers(addresses)))
	// Until all connections are there, calls go to those that are.
	for call := 0; call < 1_000 && !all(servers, 1); call++ {
		if _, err := client.Recommend(t.Context(), someone); err != nil {
			t.Fatal(err)
		}
	}
	before := make([]int, len(servers))
	for place, server := range servers {
		before[place] = server.callCount()
	}
	for range 30 {
		if _, err := client.Recommend(t.Context(), someone); err != nil {
			t.Fatal(err)
		}
	}
	for place, server := range servers {
		if more := server.callCount() - before[place]; more != 10 {
			t.Errorf("server %d: expected 10 of 30 calls, got %d", place, more)
		}
	}
}

func all(servers []*fake, calls int) bool {
	for _, server := range servers {
		if server.callCount() < calls {
			return false
		}
	}
	return true
}

func TestServerThatIsNotThereIsUnavailable(t *testing.T) {
	target := freePort(t)
	_, err := dial(t, target).Recommend(t.Context(), someone)
	if !errors.Is(err, shortlist.ErrUnavailable) || !strings.HasPrefix(err.Error(), target+" is not available: ") {
		t.Errorf("nobody listens: got %v", err)
	}

	// It takes connections, and never says a word.
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = dial(t, silent.Addr().String()).Recommend(ctx, someone)
	if !errors.Is(err, shortlist.ErrUnavailable) || !strings.Contains(err.Error(), "no connection to it within") {
		t.Errorf("nobody speaks: got %v", err)
	}
}

func TestClosedClientSaysSo(t *testing.T) {
	begun := make(chan struct{}, 1)
	server := serve(t, &fake{recommend: func(ctx context.Context, _ int) (*pb.RecommendResponse, error) {
		begun <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	client := dial(t, server.target)
	go func() {
		<-begun
		_ = client.Close()
	}()
	if _, err := client.Recommend(t.Context(), someone); !errors.Is(err, shortlist.ErrClosed) {
		t.Errorf("while it waits: got %v", err)
	}
	if _, err := client.Recommend(t.Context(), someone); !errors.Is(err, shortlist.ErrClosed) {
		t.Errorf("after: got %v", err)
	}
	if err := client.Close(); err != nil {
		t.Errorf("again: got %v", err)
	}
}

func TestTLSAndClientCertificates(t *testing.T) {
	pair, authorities := certificate(t)
	server := serve(t, &fake{}, grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{pair}, ClientCAs: authorities, ClientAuth: tls.RequireAndVerifyClientCert,
	})))
	known := &tls.Config{RootCAs: authorities, Certificates: []tls.Certificate{pair}}
	client := dial(t, server.target, shortlist.WithTLS(known), shortlist.WithAPIKey("sl_secret"))
	if _, err := client.Recommend(t.Context(), someone); err != nil {
		t.Fatal(err)
	}
	if sent := server.sent("authorization"); len(sent) != 1 || sent[0] != "Bearer sl_secret" {
		t.Errorf("got %v", sent)
	}
	for name, config := range map[string]*tls.Config{
		"another authority": {Certificates: []tls.Certificate{pair}},
		"no certificate":    {RootCAs: authorities},
	} {
		if _, err := dial(t, server.target, shortlist.WithTLS(config)).Recommend(t.Context(), someone); !errors.Is(err, shortlist.ErrUnavailable) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// certificate makes a certificate of this machine that is its own authority.
func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "localhost"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(signed)
	if err != nil {
		t.Fatal(err)
	}
	authorities := x509.NewCertPool()
	authorities.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{signed}, PrivateKey: key}, authorities
}

// freePort returns an address where nobody listens.
func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
