// Package arch holds the rules about who may import whom, as one test.
package arch

import (
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/heddle-io/heddle"

// rule forbids packages (and what they import, all the way down) to reach
// others. Paths that begin with ./ are ours; a trailing /... takes in what
// lies below.
type rule struct {
	from   string
	except []string
	never  []string
	why    string
}

var rules = []rule{
	{from: "./dag/...", never: []string{"github.com/jackc/pgx/...", "github.com/hashicorp/...", "connectrpc.com/...", "context", "time",
		"./sdk/...", "./engine/...", "./raftsched/...", "./schema", "./internal/...", "./cmd/..."},
		why: "the rules of graphs are pure values: no I/O, no clock, so that a model can check them and users can test with them"},
	{from: "./schema", never: []string{"./sdk/...", "./engine/...", "./raftsched/...", "./dag/...", "./internal/..."},
		why: "migrations must run without the rest of the program"},
	{from: "./raftsched/fsm", never: []string{"math/rand", "time", "os", "math/rand/v2", "crypto/rand", "net", "log", "log/slog", "./sdk/...", "./engine/...", "./raftsched", "./dag/...", "./schema"},
		why: "every node applies the same entries to the same state: nothing in here may depend on when or where"},
	{from: "./raftsched/dispatch", never: []string{"net", "log/slog", "context", "github.com/hashicorp/...", "github.com/jackc/pgx/...", "./sdk/...", "./engine/...", "./raftsched"},
		why: "the dispatcher is plain data that one loop owns"},
	{from: "./raftsched", never: []string{"github.com/jackc/pgx/...", "connectrpc.com/...", "./internal/gen/db", "./engine/...", "./sdk/..."},
		why: "the scheduler declares the store it needs; it knows neither SQL nor the wire"},
	{from: "./engine/...", never: []string{"./sdk/..."},
		why: "the engine serves every client alike"},
	{from: "./engine/store", never: []string{"github.com/hashicorp/...", "connectrpc.com/...", "./engine/api"},
		why: "the store maps rows to values; who leads is not its business"},
	{from: "./engine/model", never: []string{"github.com/hashicorp/...", "connectrpc.com/...", "github.com/jackc/pgx/...", "./engine/store", "./engine/api"},
		why: "the values between the rooms belong to none of them"},
	{from: "./engine/access", never: []string{"github.com/hashicorp/...", "github.com/jackc/pgx/...", "connectrpc.com/...", "./engine/store", "./engine/api", "./engine", "./raftsched/..."},
		why: "who calls is asked before it is known what for"},
	{from: "./engine/admin", never: []string{"github.com/hashicorp/...", "github.com/jackc/pgx/...", "connectrpc.com/...", "./engine/store", "./engine/api", "./engine", "./raftsched/..."},
		why: "the page calls the services as everyone does"},
	{from: "./engine/api/...", never: []string{"github.com/hashicorp/...", "github.com/jackc/pgx/...", "./internal/gen/db", "./engine/store", "./raftsched"},
		why: "handlers translate; what they need they declare as interfaces"},
	{from: "./sdk/...", except: []string{"./sdk/sdkpgx"}, never: []string{"./engine/...", "./raftsched/...", "github.com/jackc/pgx/...", "github.com/hashicorp/..."},
		why: "users' programs must not carry the engine or a database driver"},
	{from: "./internal/port", never: []string{"./engine/...", "./raftsched/...", "./sdk/...", "connectrpc.com/...", "github.com/hashicorp/...", "github.com/jackc/pgx/..."},
		why: "the port tells connections apart; what is said on them is not its business"},
	{from: "./sdk/sdkpgx", never: []string{"./engine/...", "./raftsched/...", "github.com/hashicorp/..."},
		why: "submitting in the user's transaction needs pgx and nothing else"},
}

func TestForbiddenImports(t *testing.T) {
	for _, r := range rules {
		for pkg, reach := range packages(t, r.from) {
			if contains(r.except, pkg) {
				continue
			}
			for _, dep := range reach.all {
				// The standard library imports itself freely: of it, only what
				// the package itself imports counts.
				std := !strings.HasPrefix(dep, "./") && !strings.Contains(dep, ".")
				if contains(r.never, dep) && dep != pkg && (!std || slices.Contains(reach.direct, dep)) {
					t.Errorf("%s reaches %s: %s", pkg, dep, r.why)
				}
			}
		}
	}
}

// The generated SQL has one user.
func TestOnlyTheStoreUsesGeneratedSQL(t *testing.T) {
	out := list(t, "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...")
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		for _, dep := range f[1:] {
			if dep == module+"/internal/gen/db" && f[0] != module+"/engine/store" {
				t.Errorf("%s imports the generated SQL, which only engine/store may", f[0])
			}
		}
	}
}

// reach is what a package imports, itself and in all.
type reach struct{ direct, all []string }

// packages gives each package that the pattern matches, with our module's path
// written as a dot.
func packages(t *testing.T, pattern string) map[string]reach {
	t.Helper()
	out := list(t, "-f", `{{.ImportPath}} {{join .Imports " "}} | {{join .Deps " "}}`, pattern)
	found := map[string]reach{}
	for line := range strings.Lines(out) {
		f := strings.Fields(strings.ReplaceAll(line, module+"/", "./"))
		if cut := slices.Index(f, "|"); cut > 0 {
			found[f[0]] = reach{direct: f[1:cut], all: f[cut+1:]}
		}
	}
	if len(found) == 0 {
		t.Fatalf("no package matches %s", pattern)
	}
	return found
}

func list(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		var stderr []byte
		var e *exec.ExitError
		if errors.As(err, &e) {
			stderr = e.Stderr
		}
		t.Fatalf("go list %v: %v: %s", args, err, stderr)
	}
	return string(out)
}

func contains(patterns []string, path string) bool {
	for _, p := range patterns {
		if p == path {
			return true
		}
		if base, below := strings.CutSuffix(p, "/..."); below && (path == base || strings.HasPrefix(path, base+"/")) {
			return true
		}
	}
	return false
}
