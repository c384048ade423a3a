package main

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"strings"

	"github.com/emersion/go-smtp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

func (l letter) textFor(name string) string {
	if name == "" {
		name = "reader"
	}
	return strings.ReplaceAll(l.Text, "{name}", name)
}

// postOffice keeps connections to the mail server.
type postOffice struct {
	addr string
	idle chan *smtp.Client
}

func newPostOffice(addr string, connections int) *postOffice {
	return &postOffice{addr: addr, idle: make(chan *smtp.Client, connections)}
}

func (p *postOffice) close() {
	for {
		select {
		case c := <-p.idle:
			c.Close()
		default:
			return
		}
	}
}

// deliver sends one mail on a connection that is free, or a new one.
func (p *postOffice) deliver(ctx context.Context, to, id, subject, text string) error {
	var c *smtp.Client
	var err error
	select {
	case c = <-p.idle:
	default:
		if c, err = smtp.Dial(p.addr); err != nil {
			return err
		}
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	body := fmt.Sprintf("From: <news@example.com>\r\nTo: <%s>\r\nMessage-Id: %s\r\nSubject: %s\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n%s",
		to, id, mime.QEncoding.Encode("utf-8", subject), strings.ReplaceAll(text, "\n", "\r\n"))
	err = c.SendMail("news@example.com", []string{to}, strings.NewReader(body))
	if !stop() {
		return errors.Join(context.Cause(ctx), err)
	}
	var refused *smtp.SMTPError
	if err != nil && (!errors.As(err, &refused) || c.Reset() != nil) {
		c.Close() // the connection is of no more use
		return err
	}
	select {
	case p.idle <- c:
	default:
		c.Close()
	}
	return err
}

// refusedForGood tells a 5xx answer from one that may change.
func refusedForGood(err error) bool {
	var refused *smtp.SMTPError
	return errors.As(err, &refused) && refused.Code >= 500
}

// ledger is the example's own table of mails that are out.
type ledger struct{ pool *pgxpool.Pool }

func openLedger(ctx context.Context, dsn string) (*ledger, error) {
	pool, err := pgxpool.New(ctx, dsn)
	if err != nil {
		return nil, err
	}
	return &ledger{pool}, nil
}

func (l *ledger) create(ctx context.Context) error {
	_, err := l.pool.Exec(ctx, `
		CREATE TABLE IF NOT EXISTS mails_sent (message_id text PRIMARY KEY, sent_at timestamptz NOT NULL DEFAULT now());
		CREATE TABLE IF NOT EXISTS campaigns_finished (id text PRIMARY KEY, finished_at timestamptz NOT NULL DEFAULT now())`)
	return err
}

func (l *ledger) sent(ctx context.Context, id string) (bool, error) {
	var one int
	err := l.pool.QueryRow(ctx, "SELECT 1 FROM mails_sent WHERE message_id = $1", id).Scan(&one)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

func (l *ledger) record(ctx context.Context, id string) error {
	_, err := l.pool.Exec(ctx, "INSERT INTO mails_sent (message_id) VALUES ($1) ON CONFLICT DO NOTHING", id)
	return err
}

func (l *ledger) finish(ctx context.Context, id string) error {
	_, err := l.pool.Exec(ctx, "INSERT INTO campaigns_finished (id) VALUES ($1) ON CONFLICT DO NOTHING", id)
	return err
}
