package wire

import (
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// maxDuration bounds every duration: ten years.
const maxDuration = 87600 * time.Hour

// text checks a string that Postgres keeps: no NUL, valid UTF-8, not too long.
func text(field, s string, limit int) error {
	if len(s) > limit {
		return invalid(field, "%d bytes are over the limit of %d", len(s), limit)
	}
	if strings.IndexByte(s, 0) >= 0 {
		return invalid(field, "%q contains a zero byte", s)
	}
	if !utf8.ValidString(s) {
		return invalid(field, "%q is not valid UTF-8", s)
	}
	return nil
}

// needed is text that may not be empty.
func needed(field, s string, limit int) error {
	if s == "" {
		return invalid(field, "is empty")
	}
	return text(field, s, limit)
}

// name checks the name of a node or workflow.
func name(field, s string) error {
	if strings.IndexByte(s, '/') >= 0 {
		return invalid(field, "%q contains a slash, which separates the names of a path", s)
	}
	return text(field, s, maxText)
}

// Invalid makes a FieldError.
func Invalid(field, format string, args ...any) error { return invalid(field, format, args...) }

// Between checks a whole number.
func Between(field string, v, low, high int32) error { return between(field, v, low, high) }

// Text checks a string that is needed and of at most 200 bytes.
func Text(field, s string) error { return needed(field, s, maxText) }

// Path checks a path of names.
func Path(field, s string) error { return text(field, s, 16*(maxText+1)) }

// Note checks free text of an operator.
func Note(field, s string) error { return text(field, s, maxHeader) }

// Key checks a key that may be empty.
func Key(field, s string) error { return text(field, s, maxText) }

// Duration checks a duration that may not be negative; unset gives zero.
func Duration(field string, d *durationpb.Duration, limit time.Duration) (time.Duration, error) {
	if d == nil {
		return 0, nil
	}
	if err := d.CheckValid(); err != nil {
		return 0, invalid(field, "%ds %dns is no valid duration", d.GetSeconds(), d.GetNanos())
	}
	v := d.AsDuration()
	if v < 0 {
		return 0, invalid(field, "%v is negative", v)
	}
	if v > limit {
		return 0, invalid(field, "%v is longer than %v", v, limit)
	}
	return v, nil
}

// moment checks a time; unset gives the zero time.
func moment(field string, ts *timestamppb.Timestamp) (time.Time, error) {
	if ts == nil {
		return time.Time{}, nil
	}
	if err := ts.CheckValid(); err != nil {
		return time.Time{}, invalid(field, "%ds %dns is no valid time", ts.GetSeconds(), ts.GetNanos())
	}
	if ts.GetSeconds() < 0 {
		return time.Time{}, invalid(field, "%s is before 1970", ts.AsTime().Format(time.RFC3339))
	}
	return ts.AsTime(), nil
}

// fraction checks a number between 0 and limit.
func fraction(field string, v, limit float64) error {
	if math.IsNaN(v) || v < 0 || v > limit {
		return invalid(field, "%v is not in 0..%v", v, limit)
	}
	return nil
}

// between checks a whole number.
func between(field string, v, low, high int32) error {
	if v < low || v > high {
		return invalid(field, "%d is not in %d..%d", v, low, high)
	}
	return nil
}

// keep makes a text of any origin fit to be kept: valid UTF-8, no NUL, at most
// limit bytes.
func keep(s string, limit int) string {
	if len(s) > limit {
		cut := limit
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut]
	}
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	if strings.IndexByte(s, 0) >= 0 {
		s = strings.ReplaceAll(s, "\x00", "\uFFFD")
	}
	return s
}
