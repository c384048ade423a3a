package access

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// hashPrefix marks a hash in a token file. A token has 256 random bits: there is
// nothing to guess, and a plain hash is enough.
const hashPrefix = "sha256:"

// maxName is the longest name of a token, in bytes.
const maxName = 100

// token is a line of a token file.
type token struct {
	name string
	role Role
	hash [sha256.Size]byte
}

// NewToken makes a token and the line of a token file that stands for it. The
// line does not betray the token.
func NewToken(name string, role Role) (secret, line string, err error) {
	if err := checkName(name); err != nil {
		return "", "", err
	}
	b := make([]byte, 32)
	_, _ = rand.Read(b) // it does not fail
	secret = "heddle_" + base64.RawURLEncoding.EncodeToString(b)
	hash := sha256.Sum256([]byte(secret))
	return secret, fmt.Sprintf("%s %s %s%x", name, role, hashPrefix, hash), nil
}

func checkName(name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("name %q: does not have 1 to %d bytes", name, maxName)
	}
	for _, c := range name {
		if c < '!' || c > '~' || c == '#' {
			return fmt.Errorf("name %q: letters, digits and signs of ASCII but # only", name)
		}
	}
	return nil
}

// parseTokens reads a token file: a line for each token with its name, its role
// and the hash of it; empty lines and what follows a # do not count. It tells of
// all faults at once.
func parseTokens(text []byte) ([]token, error) {
	var list []token
	var faults []error
	known := map[string]bool{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		t, err := parseToken(fields)
		switch {
		case err != nil:
			faults = append(faults, fmt.Errorf("line %d: %w", n, err))
		case known[t.name]:
			faults = append(faults, fmt.Errorf("line %d: the name %q stands in the file already", n, t.name))
		default:
			known[t.name] = true
			list = append(list, t)
		}
	}
	return list, errors.Join(append(faults, lines.Err())...)
}

// CheckTokens tells all faults of the text of a token file.
func CheckTokens(text []byte) error {
	_, err := parseTokens(text)
	return err
}

func parseToken(fields []string) (t token, err error) {
	if len(fields) != 3 {
		return t, errors.New(`must be "name role sha256:hash"`)
	}
	t.name = fields[0]
	if err := checkName(t.name); err != nil {
		return t, err
	}
	if t.role, err = ParseRole(fields[1]); err != nil {
		return t, fmt.Errorf("role %w", err)
	}
	digits, ok := strings.CutPrefix(fields[2], hashPrefix)
	if n, err := hex.Decode(t.hash[:], []byte(digits[:min(len(digits), 2*sha256.Size)])); !ok || err != nil || n != sha256.Size || len(digits) != 2*sha256.Size {
		// What stands there may be a token somebody forgot to hash: not shown.
		return t, fmt.Errorf("the third word is not %q with 64 hexadecimal digits; \"engine token\" makes such a line", hashPrefix)
	}
	return t, nil
}

// reloadEvery is how often a token file is looked at, at most.
const reloadEvery = time.Second

// Tokens are those of a file, which is read again when it has changed.
type Tokens struct {
	path string
	log  *slog.Logger
	list atomic.Pointer[[]token]

	mu      sync.Mutex // held by who looks at the file
	checked time.Time
	seen    fileMark
}

// fileMark tells whether a file has changed.
type fileMark struct {
	size  int64
	mtime time.Time
}

// OpenTokens reads a token file. Nil as logger: what goes wrong with the file
// later is not said.
func OpenTokens(path string, log *slog.Logger) (*Tokens, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	t := &Tokens{path: path, log: log, checked: time.Now()}
	if err := t.read(); err != nil {
		return nil, err
	}
	return t, nil
}

func (t *Tokens) read() error {
	info, err := os.Stat(t.path)
	if err != nil {
		return fmt.Errorf("tokens: %w", err)
	}
	mark := fileMark{info.Size(), info.ModTime()}
	if mark == t.seen {
		return nil
	}
	text, err := os.ReadFile(t.path)
	if err != nil {
		return fmt.Errorf("tokens: %w", err)
	}
	t.seen = mark
	list, err := parseTokens(text)
	if err != nil {
		return fmt.Errorf("tokens: %s: %w", t.path, err)
	}
	t.list.Store(&list)
	return nil
}

// renew reads the file again if it has changed. While it cannot be read, or is
// at fault, what it said before holds.
func (t *Tokens) renew() {
	if !t.mu.TryLock() {
		return // somebody else is at it
	}
	defer t.mu.Unlock()
	now := time.Now()
	if now.Sub(t.checked) < reloadEvery {
		return
	}
	t.checked = now
	before := t.list.Load()
	if err := t.read(); err != nil {
		t.log.Error("token file not read, the tokens it had before hold on", "error", err)
		return
	}
	if after := t.list.Load(); after != before {
		t.log.Info("token file read", "tokens", len(*after))
	}
}

// find gives the caller who has a token. Every line is compared in full: the
// time it takes says nothing.
func (t *Tokens) find(secret string) (Caller, bool) {
	t.renew()
	hash := sha256.Sum256([]byte(secret))
	var found *token
	list := *t.list.Load()
	for i := range list {
		if subtle.ConstantTimeCompare(list[i].hash[:], hash[:]) == 1 {
			found = &list[i]
		}
	}
	if found == nil {
		return Caller{}, false
	}
	return Caller{Name: found.name, Role: found.role}, true
}
