package main

import (
	"context"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"net/mail"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-smtp"

	heddle "github.com/heddle-io/heddle/sdk"
)

// inbox is a real mail server on loopback.
type inbox struct {
	mu    sync.Mutex
	mails []string
	rcpts []string
}

func (b *inbox) NewSession(*smtp.Conn) (smtp.Session, error) { return &delivery{box: b}, nil }

type delivery struct{ box *inbox }

func (d *delivery) Mail(string, *smtp.MailOptions) error { return nil }
func (d *delivery) Rcpt(to string, _ *smtp.RcptOptions) error {
	switch {
	case strings.HasPrefix(to, "nobody@"):
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user"}
	case strings.HasPrefix(to, "busy@"):
		return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 7, 1}, Message: "come back later"}
	}
	d.box.mu.Lock()
	defer d.box.mu.Unlock()
	d.box.rcpts = append(d.box.rcpts, to)
	return nil
}
func (d *delivery) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	d.box.mu.Lock()
	defer d.box.mu.Unlock()
	d.box.mails = append(d.box.mails, string(raw))
	return err
}
func (d *delivery) Reset()        {}
func (d *delivery) Logout() error { return nil }

func serveMail(t *testing.T) (*inbox, mailer) {
	t.Helper()
	box := &inbox{}
	srv := smtp.NewServer(box)
	srv.Domain = "test"
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() { defer close(served); srv.Serve(l) }()
	t.Cleanup(func() { srv.Close(); <-served })
	return box, mailer{addr: l.Addr().String(), security: "none", from: "Shop <shop@example.com>"}
}

func TestSendDelivers(t *testing.T) {
	box, m := serveMail(t)
	out, err := m.send(t.Context(), letter{
		To: []string{"Zoë <zoe@example.org>"}, Bcc: []string{"audit@example.com"},
		Subject: "Grüße\r\nBcc: evil@example.com", Text: "hallo Zoë", HTML: "<p>hallo Zoë</p>",
	})
	if err != nil || out.Recipients != 2 {
		t.Fatalf("send: %+v, %v", out, err)
	}
	if got := strings.Join(box.rcpts, " "); got != "zoe@example.org audit@example.com" && got != "audit@example.com zoe@example.org" {
		t.Errorf("recipients %q", got)
	}
	msg, err := mail.ReadMessage(strings.NewReader(box.mails[0]))
	if err != nil {
		t.Fatal(err)
	}
	if msg.Header.Get("Bcc") != "" || msg.Header.Get("Message-Id") != out.MessageID {
		t.Errorf("headers %v, message id %s", msg.Header, out.MessageID)
	}
	if got, _ := new(mime.WordDecoder).DecodeHeader(msg.Header.Get("Subject")); !strings.HasPrefix(got, "Grüße") {
		t.Errorf("subject %q", got)
	}
	_, params, err := mime.ParseMediaType(msg.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	parts := multipart.NewReader(msg.Body, params["boundary"])
	for _, want := range []string{"hallo Zoë", "<p>hallo Zoë</p>"} {
		p, err := parts.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		if body, _ := io.ReadAll(p); string(body) != want {
			t.Errorf("part %q, want %q", body, want)
		}
	}
}

func TestSendTellsRefusalsApart(t *testing.T) {
	_, m := serveMail(t)
	for _, c := range []struct {
		to    string
		final bool
	}{{"nobody@example.org", true}, {"busy@example.org", false}, {"not an address", true}} {
		_, err := m.send(t.Context(), letter{To: []string{c.to}, Subject: "s", Text: "t"})
		if err == nil || heddle.IsNoRetry(err) != c.final {
			t.Errorf("%s: %v, want an error for good: %v", c.to, err, c.final)
		}
	}
	for want, l := range map[string]letter{
		"to: no recipient": {Text: "t"},
		"text and html":    {To: []string{"a@b.c"}},
		`from: "x"`:        {From: "x", To: []string{"a@b.c"}, Text: "t"},
		`headers: "A\nB"`:  {To: []string{"a@b.c"}, Text: "t", Headers: map[string]string{"A\nB": "c"}},
	} {
		if _, err := m.send(t.Context(), l); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", l, err, want)
		}
	}
	nobody := m
	nobody.from = ""
	if _, err := nobody.send(t.Context(), letter{To: []string{"a@b.c"}, Text: "t"}); err == nil || !strings.Contains(err.Error(), "--smtp-from") {
		t.Errorf("no sender: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.send(ctx, letter{To: []string{"a@b.c"}, Text: "t"}); err == nil || heddle.IsNoRetry(err) {
		t.Errorf("cancelled send: %v", err)
	}
}
