package pgembed

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"sort"
	"strconv"

	embedded "github.com/fergusstrange/embedded-postgres"
)

// MinMajor is the oldest PostgreSQL release that Heddle works on.
const MinMajor = 15

var versionDigits = regexp.MustCompile(`\d+`)

// binaries finds the folder that holds postgres and initdb: on PATH, then in
// the places where Debian, Homebrew, the RPM packages and Postgres.app put
// them, the newest first. Where there are none it downloads a distribution
// into cache, with github.com/fergusstrange/embedded-postgres.
func binaries(ctx context.Context, cache string) (string, error) {
	var tooOld string
	for _, dir := range candidates() {
		major, err := majorVersion(ctx, dir)
		if err != nil {
			continue
		}
		if major >= MinMajor {
			return dir, nil
		}
		tooOld = fmt.Sprintf("; PostgreSQL %d in %s is too old, Heddle needs %d", major, dir, MinMajor)
	}
	dir, err := download(cache)
	if err != nil {
		return "", fmt.Errorf("no PostgreSQL binaries on PATH or in the usual folders%s, and downloading them: %w", tooOld, err)
	}
	return dir, nil
}

// candidates lists folders that may hold the binaries, best first.
func candidates() []string {
	var dirs []string
	if p, err := exec.LookPath("postgres"); err == nil {
		if real, err := filepath.EvalSymlinks(p); err == nil {
			p = real
		}
		dirs = append(dirs, filepath.Dir(p))
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin",
		"/usr/pgsql-*/bin",
		"/opt/homebrew/opt/postgresql@*/bin",
		"/usr/local/opt/postgresql@*/bin",
		"/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
		"/Applications/Postgres.app/Contents/Versions/*/bin",
	} {
		found, _ := filepath.Glob(pattern) // the patterns are well formed
		sort.Slice(found, func(i, j int) bool { return pathVersion(found[i]) > pathVersion(found[j]) })
		dirs = append(dirs, found...)
	}
	return dirs
}

func pathVersion(dir string) int {
	n, _ := strconv.Atoi(versionDigits.FindString(filepath.Base(filepath.Dir(dir))))
	return n
}

// majorVersion asks the binaries in dir for their release; it fails unless
// both are there.
func majorVersion(ctx context.Context, dir string) (int, error) {
	if _, err := os.Stat(filepath.Join(dir, "initdb"+exe())); err != nil {
		return 0, err
	}
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"+exe()), "--version").Output()
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(versionDigits.FindString(string(out)))
}

// download fetches a distribution and gives the folder of its binaries. The
// library that does it can only start a whole server; the binaries are what is
// wanted of it, so a start that fails after unpacking them does not matter.
func download(cache string) (string, error) {
	root := filepath.Join(cache, "postgres-17")
	bin := filepath.Join(root, "bin")
	if _, err := os.Stat(filepath.Join(bin, "initdb"+exe())); err == nil {
		return bin, nil
	}
	scratch, err := os.MkdirTemp("", "heddle-postgres-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(scratch)
	port, err := freePort()
	if err != nil {
		return "", err
	}
	pg := embedded.NewDatabase(embedded.DefaultConfig().
		Version(embedded.V17).Port(uint32(port)).
		CachePath(filepath.Join(cache, "archives")).BinariesPath(root).
		RuntimePath(filepath.Join(scratch, "run")).DataPath(filepath.Join(scratch, "data")).Logger(nil))
	startErr := pg.Start()
	if startErr == nil {
		if err := pg.Stop(); err != nil {
			return "", err
		}
	}
	if _, err := os.Stat(filepath.Join(bin, "initdb"+exe())); err != nil {
		if startErr == nil {
			startErr = err
		}
		return "", startErr
	}
	return bin, nil
}

func exe() string {
	if runtime.GOOS == "windows" {
		return ".exe"
	}
	return ""
}
