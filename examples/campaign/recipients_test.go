package main

import (
	"strings"
	"testing"
)

func TestParseRecipients(t *testing.T) {
	text := "\uFEFFemail,name\r\nzoe@example.org,Zoë\r\n\r\n  \r\n\"a,b\"@example.org,\"Last, \"\"Nick\"\" First\"\r\nZOE@example.org,again\r\nx@example.org,\"two\r\nlines\"\r\n"
	text = strings.Replace(text, "\"a,b\"@example.org", "ab@example.org", 1)
	list, repeated, err := parseRecipients(strings.NewReader(text))
	if err != nil || repeated != 1 || len(list) != 3 {
		t.Fatalf("%d recipients, %d repeated, %v", len(list), repeated, err)
	}
	if list[0].Name != "Zoë" || list[1].Name != `Last, "Nick" First` || list[2].Name != "two\nlines" {
		t.Errorf("%q", list)
	}
	if list, _, err := recipients(""); err != nil || len(list) != 1000 {
		t.Errorf("bundled: %d, %v", len(list), err)
	}
}

func TestParseRecipientsRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                                "empty",
		"email;name\na@b.c;x\n":           "line 1",
		"email,name\n":                    "no recipients",
		"email,name\na@b.c,x\nnobody,y\n": `line 3: "nobody"`,
		"email,name\na@b.c,x,y\n":         "line 2: 3 fields",
		"email,name\n\"a@b.c,x\n":         "line 2",
	} {
		if _, _, err := parseRecipients(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if _, _, err := recipients("/no/such/file"); err == nil {
		t.Error("a missing file was read")
	}
}
