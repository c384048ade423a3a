package store

import (
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestErrorGroup(t *testing.T) {
	for text, want := range map[string]string{
		"":                                     "",
		"no route to host":                     "no route to host",
		"user 4711 has no address":             "user … has no address",
		`invoice "2026/17" not found`:          "invoice … not found",
		"dial tcp 10.0.0.7:5432: i/o timeout":  "dial tcp …: i/o timeout",
		"can't open 'a b.txt' or it's gone":    "can't open … or it's gone",
		"order 0a1b-22cd, item 3 of 9":         "order …, item … of …",
		"took 1.5s\ngoroutine 1 [running]:\n":  "took …",
		"  trailing \t\nmore":                  "trailing",
		`unclosed "quote`:                      `unclosed "quote`,
		`she said "a \" b" 1`:                  "she said … …",
		"größe 5 größer":                       "größe … größer",
		strings.Repeat("word ", 100) + "9":     strings.Repeat("word ", 40),
		"pq: duplicate key value `k1` (23505)": "pq: duplicate key value … (…)",
	} {
		if got := errorGroup(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// Whatever an error is, the statement that looks for its group finds it, and a
// group is a group of its own.
func TestErrorGroupPattern(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.StringMatching(`[a-c0-9 '"%_\\.:\n…-]{0,40}`).Draw(rt, "error")
		group := errorGroup(text)
		if strings.TrimSpace(group) == group && errorGroup(group) != group && !strings.ContainsAny(group, `'"`) {
			rt.Errorf("%q: group %q is in group %q", text, group, errorGroup(group))
		}
		pattern := errorGroupPattern(group)
		if !likes(pattern, text) {
			rt.Errorf("%q is not like %q", text, pattern)
		}
	})
}

// likes is LIKE.
func likes(pattern, text string) bool {
	var re strings.Builder
	re.WriteString("(?s)^")
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; c {
		case '%':
			re.WriteString(".*")
		case '_':
			re.WriteString(".")
		case '\\':
			i++
			re.WriteString(regexp.QuoteMeta(pattern[i : i+1]))
		default:
			re.WriteString(regexp.QuoteMeta(string(c)))
		}
	}
	return regexp.MustCompile(re.String() + "$").MatchString(text)
}
