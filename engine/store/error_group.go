package store

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// differs stands for what tells errors of a group apart.
	differs = "…"
	// groupRunes is how much of an error tells groups apart.
	groupRunes = 200
	// errorRunes is how much of it is looked at; FailedErrors reads as much.
	errorRunes = 1000
)

// errorGroup is the first line of an error with what differs from case to case
// left out: words with digits in them (numbers, ids, addresses), and what is
// quoted.
func errorGroup(text string) string {
	if utf8.RuneCountInString(text) > errorRunes {
		text = string([]rune(text)[:errorRunes])
	}
	text = strings.TrimSpace(text)
	if i := strings.IndexByte(text, '\n'); i >= 0 {
		text = strings.TrimRight(text[:i], " \r\t")
	}
	var b strings.Builder
	var before rune
	runes := 0
	for len(text) > 0 && runes < groupRunes {
		r, size := utf8.DecodeRuneInString(text)
		if n := quoted(text, before); n > 0 {
			b.WriteString(differs)
			before, text = ' ', text[n:]
			runes++
			continue
		}
		if !wordRune(r) {
			b.WriteRune(r)
			before, text = r, text[size:]
			runes++
			continue
		}
		word := text[:wordLen(text)]
		text = text[len(word):]
		if !strings.ContainsFunc(word, unicode.IsDigit) {
			if more := groupRunes - runes; utf8.RuneCountInString(word) > more {
				word = string([]rune(word)[:more])
			}
			b.WriteString(word)
			before = 'a'
			runes += utf8.RuneCountInString(word)
			continue
		}
		// One that goes on behind a dot or a colon is one: 10.0.0.7:5432.
		for len(text) > 1 && strings.IndexByte(".:,+/", text[0]) >= 0 {
			next := text[1 : 1+wordLen(text[1:])]
			if !strings.ContainsFunc(next, unicode.IsDigit) {
				break
			}
			text = text[1+len(next):]
		}
		b.WriteString(differs)
		before = 'a'
		runes++
	}
	return b.String()
}

func wordRune(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) || r == '_' || r == '-' }

func wordLen(text string) int {
	if i := strings.IndexFunc(text, func(r rune) bool { return !wordRune(r) }); i >= 0 {
		return i
	}
	return len(text)
}

// quoted is the length of a quotation at the start of a text, 0 if there is
// none. An apostrophe within a word begins none.
func quoted(text string, before rune) int {
	switch text[0] {
	case '"', '`':
	case '\'':
		if wordRune(before) {
			return 0
		}
	default:
		return 0
	}
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] == '\\':
			i++
		case text[i] == text[0]:
			return i + 1
		}
	}
	return 0
}

// errorGroupPattern is what the errors of a group are like, in the terms of LIKE.
func errorGroupPattern(group string) string {
	parts := strings.Split(group, differs)
	for i, p := range parts {
		parts[i] = escapeLike(p)
	}
	return "%" + strings.Join(parts, "%") + "%"
}
