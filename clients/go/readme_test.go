package shortlist_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestQuickStartRuns runs the first program of the README as its reader would: in a module of his own, beside what it shows
// of errors.
func TestQuickStartRuns(t *testing.T) {
	target := startServers(t).Servers["faulty"]
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```go\n(package main\n.*?)```").FindSubmatch(readme)
	if block == nil {
		t.Fatal("no program in README.md")
	}
	program := strings.ReplaceAll(string(block[1]), "127.0.0.1:8500", target)
	fragment := regexp.MustCompile("(?s)```go\n(var .*?)```").FindSubmatch(readme)
	if fragment == nil {
		t.Fatal("no errors in README.md")
	}
	errorsProgram := fmt.Sprintf(`package main

import (
	"errors"
	"log"

	shortlist "github.com/shortlist-dev/shortlist/clients/go"
)

func handle(err error) {
%s}

func init() { handle(errors.New("no error of a call")) }
`, fragment[1])
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	module, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	const name = "github.com/shortlist-dev/shortlist/clients/go"
	text := strings.Replace(string(module), "module "+name, "module quickstart", 1) +
		"\nrequire " + name + " v0.0.0\n\nreplace " + name + " => " + here + "\n"
	sums, err := os.ReadFile("go.sum")
	if err != nil {
		t.Fatal(err)
	}
	for file, content := range map[string]string{"go.mod": text, "go.sum": string(sums), "main.go": program, "errors.go": errorsProgram} {
		if err := os.WriteFile(filepath.Join(folder, file), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	command := exec.CommandContext(t.Context(), "go", "run", "-mod=mod", ".")
	command.Dir = folder
	printed, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, printed)
	}
	lines := strings.Split(strings.TrimSpace(string(printed)), "\n")
	if len(lines) != 7 {
		t.Fatalf("expected five items and two lists, got\n%s", printed)
	}
	item := regexp.MustCompile(`^i\d+ Film \d+ é \S+$`)
	for _, line := range lines[:5] {
		if !item.MatchString(line) {
			t.Errorf("expected an item, got %q", line)
		}
	}
	if lines[5] != `"": 5 items, last: false` || lines[6] != `"diversity": 5 items, last: true` {
		t.Errorf("expected two lists, got %q", lines[5:])
	}
}
