package shortlist_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	shortlist "github.com/shortlist-dev/shortlist/clients/go"
)

// vector is a request, and what must come of it; see tests/data/requests/README.md.
type vector struct {
	name     string
	Method   string
	Request  json.RawMessage
	Server   string
	Key      string
	Expected map[string]any
}

// comparison says how answers are compared.
type comparison struct {
	Volatile  []string
	Tolerance float64
	Unordered map[string]string
}

func TestEveryVectorIsAnsweredAsExpected(t *testing.T) {
	servers := startServers(t)
	rules := readJSON[comparison](t, "comparison.json")
	answered := map[string]int{}
	for _, vector := range vectors(t) {
		// They are sent in order: a subtest that fails does not keep the later ones from it.
		t.Run(vector.name, func(t *testing.T) {
			got := plain(t, vector.send(t, servers))
			if different := rules.differences(vector.Method, vector.Expected, got); len(different) > 0 {
				t.Fatal(strings.Join(different, "\n"))
			}
			answered[vector.Method]++
		})
	}
	report(t, answered)
}

// report tells `make test-clients` how many vectors of each method were answered as expected.
func report(t *testing.T, answered map[string]int) {
	file := os.Getenv("SHORTLIST_VECTORS_REPORT")
	if file == "" {
		return
	}
	written, err := json.Marshal(answered)
	if err == nil {
		err = os.WriteFile(file, written, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func vectors(t *testing.T) []vector {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "tests/data/requests/[0-9]*.json"))
	if err != nil || len(files) == 0 {
		t.Fatal("no vectors", err)
	}
	sort.Strings(files)
	var found []vector
	for _, file := range files {
		one := readJSON[vector](t, filepath.Base(file))
		one.name = strings.TrimSuffix(filepath.Base(file), ".json")
		found = append(found, one)
	}
	return found
}

func readJSON[Kind any](t *testing.T, name string) Kind {
	t.Helper()
	var read Kind
	text, err := os.ReadFile(filepath.Join(root, "tests/data/requests", name))
	if err == nil {
		err = json.Unmarshal(text, &read)
	}
	if err != nil {
		t.Fatal(name, err)
	}
	return read
}

// send makes the call by the client's method of the same name, on a connection of its own.
func (v vector) send(t *testing.T, servers realServers) map[string]any {
	t.Helper()
	target := servers.Servers[orElse(v.Server, "main")]
	options := []shortlist.Option{}
	if key := orElse(v.Key, "all"); key != "none" {
		options = append(options, shortlist.WithAPIKey(servers.Keys[key]))
	}
	client := dial(t, target, options...)
	_, name, _ := strings.Cut(v.Method, "/")
	method := reflect.ValueOf(client).MethodByName(name)
	if !method.IsValid() {
		t.Fatalf("the client has no method %s", name)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	results := method.Call([]reflect.Value{reflect.ValueOf(ctx), reflect.ValueOf(v.message(t))})

	responses := []any{}
	var failed error
	if len(results) == 1 {
		for response, err := range results[0].Seq2() {
			if failed, _ = err.Interface().(error); failed == nil {
				responses = append(responses, response.Interface())
			}
		}
	} else if failed, _ = results[1].Interface().(error); failed == nil {
		responses = append(responses, results[0].Interface())
	}
	if failed != nil {
		return map[string]any{"error": errorOf(t, failed)}
	}
	return map[string]any{"responses": responses}
}

func orElse(value, other string) string {
	if value == "" {
		return other
	}
	return value
}

// message returns the request as the message that the method takes.
func (v vector) message(t *testing.T) proto.Message {
	t.Helper()
	name := protoreflect.FullName(strings.ReplaceAll(v.Method, "/", "."))
	method, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	if err != nil {
		t.Fatal(name, err)
	}
	kind, err := protoregistry.GlobalTypes.FindMessageByName(method.(protoreflect.MethodDescriptor).Input().FullName())
	if err != nil {
		t.Fatal(err)
	}
	message := kind.New().Interface()
	if err := protojson.Unmarshal(v.Request, message); err != nil {
		t.Fatal(err)
	}
	return message
}

// errorOf takes an error apart, and checks that it is of the kinds that its reason and its code say.
func errorOf(t *testing.T, err error) map[string]any {
	t.Helper()
	var failed *shortlist.Error
	if !errors.As(err, &failed) {
		t.Fatalf("expected an *Error, got %T: %v", err, err)
	}
	reason := strings.TrimPrefix(failed.Reason.String(), "ERROR_REASON_")
	for _, kind := range kindsOf(t, reason, failed.Code) {
		if !errors.Is(err, kind) {
			t.Errorf("%v is not %v", err, kind)
		}
	}
	if failed.Message == "" || failed.RequestID == "" {
		t.Errorf("expected a message and a request id, got %+v", failed)
	}
	told := map[string]string{}
	maps.Copy(told, failed.Metadata)
	return map[string]any{
		"code":            statusName(failed.Code),
		"reason":          reason,
		"metadata":        told,
		"has_retry_delay": failed.RetryDelay > 0,
	}
}

// kindsOf returns what an error must be of by errors.Is.
func kindsOf(t *testing.T, reason string, code codes.Code) []error {
	t.Helper()
	kind, known := kindByReason[reason]
	if !known {
		t.Fatalf("no kind for %s", reason)
	}
	if reason == "UNKNOWN_ITEM" && code == codes.NotFound {
		return []error{shortlist.ErrNotFound}
	}
	return append([]error{kind}, familyOf[kind]...)
}

func statusName(code codes.Code) string {
	names := map[codes.Code]string{}
	for number := codes.OK; number <= codes.Unauthenticated; number++ {
		var name strings.Builder
		for place, letter := range number.String() {
			if place > 0 && letter >= 'A' && letter <= 'Z' {
				name.WriteByte('_')
			}
			name.WriteRune(letter)
		}
		names[number] = strings.ToUpper(name.String())
	}
	return names[code]
}

// plain returns an answer as it would be read from a file.
func plain(t *testing.T, answer map[string]any) map[string]any {
	t.Helper()
	if responses, ok := answer["responses"].([]any); ok {
		for place, response := range responses {
			text, err := protojson.Marshal(response.(proto.Message))
			if err != nil {
				t.Fatal(err)
			}
			responses[place] = json.RawMessage(text)
		}
	}
	text, err := json.Marshal(answer)
	var read map[string]any
	if err == nil {
		err = json.NewDecoder(bytes.NewReader(text)).Decode(&read)
	}
	if err != nil {
		t.Fatal(err)
	}
	return read
}

// differences returns where two answers differ.
func (c comparison) differences(method string, expected, got map[string]any) []string {
	if field, ok := c.Unordered[method]; ok {
		inOrder(expected, field)
		inOrder(got, field)
	}
	var found []string
	c.compare("", expected, got, func(difference string) { found = append(found, difference) })
	return found
}

func inOrder(answer map[string]any, field string) {
	responses, _ := answer["responses"].([]any)
	number := func(response any) float64 {
		value, _ := response.(map[string]any)[field].(float64)
		return value
	}
	sort.SliceStable(responses, func(i, j int) bool { return number(responses[i]) < number(responses[j]) })
}

func (c comparison) compare(path string, expected, got any, tell func(string)) {
	switch one := expected.(type) {
	case map[string]any:
		if other, ok := got.(map[string]any); ok {
			names := map[string]bool{}
			for name := range one {
				names[name] = true
			}
			for name := range other {
				names[name] = true
			}
			for _, name := range slices.Sorted(maps.Keys(names)) {
				if !slices.Contains(c.Volatile, name) {
					c.compare(path+"."+name, one[name], other[name], tell)
				}
			}
			return
		}
	case []any:
		if other, ok := got.([]any); ok && len(one) == len(other) {
			for place := range one {
				c.compare(fmt.Sprintf("%s[%d]", path, place), one[place], other[place], tell)
			}
			return
		}
	case float64:
		if other, ok := got.(float64); ok &&
			math.Abs(one-other) <= c.Tolerance*max(1, math.Abs(one), math.Abs(other)) {
			return
		}
	default:
		if reflect.DeepEqual(expected, got) {
			return
		}
	}
	tell(fmt.Sprintf("%s: expected %v, got %v", strings.TrimPrefix(path, "."), expected, got))
}

func TestAnswersAreComparedByTheRules(t *testing.T) {
	rules := comparison{Volatile: []string{"requestId"}, Tolerance: 1e-5, Unordered: map[string]string{"Batch": "index"}}
	for _, check := range []struct{ method, expected, got, where string }{
		{"", `{"a": 1.0}`, `{"a": 1.000001}`, ""},
		{"", `{"a": 1.0}`, `{"a": 1.001}`, "a"},
		{"", `{"a": 1000}`, `{"a": 1000.001}`, ""},
		{"", `{"a": "1"}`, `{"a": 1}`, "a"},
		{"", `{"a": 1}`, `{"a": "1"}`, "a"},
		{"", `{"a": true}`, `{"a": false}`, "a"},
		{"", `{"a": [1]}`, `{"a": [1, 2]}`, "a"},
		{"", `{"a": {"b": 1}}`, `{"a": {}}`, "a.b"},
		{"", `{}`, `{"b": ""}`, "b"},
		{"", `{"requestId": "1"}`, `{"requestId": "2"}`, ""},
		{"Batch", `{"responses": [{"x": "a"}, {"index": 1}]}`, `{"responses": [{"index": 1}, {"x": "a"}]}`, ""},
		{"", `{"responses": [{"index": 2}, {"index": 1}]}`, `{"responses": [{"index": 1}, {"index": 2}]}`, "responses[0].index"},
	} {
		var expected, got map[string]any
		if err := errors.Join(json.Unmarshal([]byte(check.expected), &expected), json.Unmarshal([]byte(check.got), &got)); err != nil {
			t.Fatal(err)
		}
		where := ""
		if found := rules.differences(check.method, expected, got); len(found) > 0 {
			where, _, _ = strings.Cut(found[0], ":")
		}
		if where != check.where {
			t.Errorf("%s and %s: expected a difference at %q, got %q", check.expected, check.got, check.where, where)
		}
	}
}
