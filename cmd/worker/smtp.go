package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/textproto"
	"strings"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	heddle "github.com/heddle-io/heddle/sdk"
)

// letter is the arguments of a job of kind smtp.
type letter struct {
	From    string            `json:"from,omitempty"` // default: --smtp-from
	To      []string          `json:"to"`
	Cc      []string          `json:"cc,omitempty"`
	Bcc     []string          `json:"bcc,omitempty"`
	Subject string            `json:"subject"`
	Text    string            `json:"text,omitempty"`
	HTML    string            `json:"html,omitempty"`
	Headers map[string]string `json:"headers,omitempty"`
}

// sent is the result of a job of kind smtp.
type sent struct {
	MessageID  string `json:"message_id"`
	Recipients int    `json:"recipients"`
}

var smtpKind = heddle.NewKind[json.RawMessage, sent]("smtp")

// mailer is the mail server a worker sends through.
type mailer struct {
	addr, user, password, security, from string
	// tls is for tests; nil: the system's roots.
	tls *tls.Config
}

// check gives the faults of the flags.
func (m mailer) check() (faults []error) {
	if m.addr == "" {
		return nil
	}
	if host, port, err := net.SplitHostPort(m.addr); err != nil || host == "" || port == "" {
		faults = append(faults, fmt.Errorf("--smtp-addr: %q is not host:port", m.addr))
	}
	switch m.security {
	case "starttls", "tls", "none":
	default:
		faults = append(faults, fmt.Errorf("--smtp-security: %q is not starttls, tls or none", m.security))
	}
	if _, err := mail.ParseAddress(m.from); m.from != "" && err != nil {
		faults = append(faults, fmt.Errorf("--smtp-from: %q: %w", m.from, err))
	}
	return faults
}

// send delivers one mail. Its Message-ID is made of the job's id, so that the
// receiving side can tell a second delivery of the same job: an attempt that
// dies between the server's answer and our report is run again. Refusals for
// good (5xx) are not retried.
func (m mailer) send(ctx context.Context, l letter) (sent, error) {
	from, rcpts, err := m.addresses(l)
	if err != nil {
		return sent{}, heddle.NoRetry(err)
	}
	job := heddle.JobInfo(ctx)
	id := messageID(job, from)
	body, err := compose(l, from, id, time.Now())
	if err != nil {
		return sent{}, heddle.NoRetry(err)
	}
	c, err := m.dial(ctx)
	if err != nil {
		return sent{}, fmt.Errorf("mail server %s: %w", m.addr, err)
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	if err := c.SendMail(from.Address, rcpts, bytes.NewReader(body)); err != nil {
		return sent{}, classify(because(ctx, fmt.Errorf("mail server %s: %w", m.addr, err)))
	}
	_ = c.Quit() // the mail is delivered, whatever becomes of the connection
	return sent{MessageID: id, Recipients: len(rcpts)}, nil
}

func classify(err error) error {
	var refused *smtp.SMTPError
	if errors.As(err, &refused) && refused.Code >= 500 {
		return heddle.NoRetry(err)
	}
	return err
}

func (m mailer) addresses(l letter) (from *mail.Address, rcpts []string, err error) {
	sender := l.From
	if sender == "" {
		sender = m.from
	}
	if sender == "" {
		return nil, nil, errors.New("from: is empty, and the worker has no --smtp-from")
	}
	if from, err = mail.ParseAddress(sender); err != nil {
		return nil, nil, fmt.Errorf("from: %q: %w", sender, err)
	}
	for field, list := range map[string][]string{"to": l.To, "cc": l.Cc, "bcc": l.Bcc} {
		for _, text := range list {
			a, err := mail.ParseAddress(text)
			if err != nil {
				return nil, nil, fmt.Errorf("%s: %q: %w", field, text, err)
			}
			rcpts = append(rcpts, a.Address)
		}
	}
	if len(rcpts) == 0 {
		return nil, nil, errors.New("to: no recipient")
	}
	return from, rcpts, nil
}

// dial connects, secures and authenticates; a deadline of ctx holds for all.
func (m mailer) dial(ctx context.Context) (*smtp.Client, error) {
	conn, err := (&net.Dialer{Timeout: 30 * time.Second}).DialContext(ctx, "tcp", m.addr)
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(m.addr)
	if err != nil {
		conn.Close()
		return nil, err
	}
	conf := &tls.Config{ServerName: host}
	if m.tls != nil {
		conf = m.tls
	}
	var c *smtp.Client
	switch m.security {
	case "tls":
		c = smtp.NewClient(tls.Client(conn, conf))
	case "starttls":
		if c, err = smtp.NewClientStartTLS(conn, conf); err != nil {
			conn.Close()
			return nil, err
		}
	default:
		c = smtp.NewClient(conn)
	}
	if m.user != "" {
		if err := c.Auth(sasl.NewPlainClient("", m.user, m.password)); err != nil {
			c.Close()
			return nil, err
		}
	}
	return c, nil
}

func messageID(job heddle.Info, from *mail.Address) string {
	_, domain, _ := strings.Cut(from.Address, "@")
	return fmt.Sprintf("<%s.%d@%s>", job.WorkflowID, job.Node, domain)
}

// compose writes the mail as RFC 5322 and, with both bodies, as
// multipart/alternative (RFC 2046).
func compose(l letter, from *mail.Address, id string, now time.Time) ([]byte, error) {
	if l.Text == "" && l.HTML == "" {
		return nil, errors.New("text and html: both are empty")
	}
	for name := range l.Headers {
		if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == ':' }) {
			return nil, fmt.Errorf("headers: %q is no name of a header", name)
		}
	}
	var out bytes.Buffer
	header := func(name, value string) {
		fmt.Fprintf(&out, "%s: %s\r\n", textproto.CanonicalMIMEHeaderKey(name), strings.NewReplacer("\r", " ", "\n", " ").Replace(value))
	}
	header("From", from.String())
	for name, list := range map[string][]string{"To": l.To, "Cc": l.Cc} {
		if len(list) > 0 {
			header(name, strings.Join(list, ", "))
		}
	}
	header("Subject", mime.QEncoding.Encode("utf-8", l.Subject))
	header("Date", now.Format(time.RFC1123Z))
	header("Message-Id", id)
	header("Mime-Version", "1.0")
	for name, value := range l.Headers {
		header(name, value)
	}
	if l.Text != "" && l.HTML != "" {
		parts := multipart.NewWriter(&out)
		header("Content-Type", "multipart/alternative; boundary="+parts.Boundary())
		out.WriteString("\r\n")
		for _, p := range []struct{ kind, body string }{{"text/plain", l.Text}, {"text/html", l.HTML}} {
			w, err := parts.CreatePart(textproto.MIMEHeader{
				"Content-Type": {p.kind + "; charset=utf-8"}, "Content-Transfer-Encoding": {"quoted-printable"}})
			if err != nil {
				return nil, err
			}
			if err := quoted(w, p.body); err != nil {
				return nil, err
			}
		}
		return out.Bytes(), parts.Close()
	}
	kind, body := "text/plain", l.Text
	if l.HTML != "" {
		kind, body = "text/html", l.HTML
	}
	header("Content-Type", kind+"; charset=utf-8")
	header("Content-Transfer-Encoding", "quoted-printable")
	out.WriteString("\r\n")
	return out.Bytes(), quoted(&out, body)
}

func quoted(w io.Writer, body string) error {
	q := quotedprintable.NewWriter(w)
	if _, err := q.Write([]byte(body)); err != nil {
		return err
	}
	return q.Close()
}
