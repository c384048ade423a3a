package main

import (
	"bufio"
	"errors"
	"hash/fnv"
	"io"
	"net"
	"net/textproto"
	"sync"

	"github.com/emersion/go-smtp"
)

// inbox is a mail server on loopback that keeps count of what it is sent. Some
// addresses it refuses for good, some it puts off the first time or two; which
// ones is decided by a hash of the address, so that a run can be repeated.
type inbox struct {
	refuse, busy float64 // shares of all addresses, 0 to 1
	server       *smtp.Server
	addr         string
	served       chan error

	mu        sync.Mutex
	delivered map[string]int  // mails by Message-ID
	refused   map[string]bool // addresses refused for good
	putOff    map[string]int  // how often an address was put off
	notices   int             // mails to the administrator
}

const administrator = "admin@example.com"

func serveInbox(refuse, busy float64) (*inbox, error) {
	b := &inbox{refuse: refuse, busy: busy, served: make(chan error, 1),
		delivered: map[string]int{}, refused: map[string]bool{}, putOff: map[string]int{}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b.addr = l.Addr().String()
	b.server = smtp.NewServer(b)
	b.server.Domain = "localhost"
	b.server.ErrorLog = discard{}
	go func() { b.served <- b.server.Serve(l) }()
	return b, nil
}

func (b *inbox) close() error {
	if err := b.server.Close(); err != nil {
		return err
	}
	if err := <-b.served; !errors.Is(err, smtp.ErrServerClosed) {
		return err
	}
	return nil
}

// tally is what the inbox has seen.
type tally struct{ mails, distinct, refused, putOff, notices int }

func (b *inbox) tally() tally {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := tally{distinct: len(b.delivered), refused: len(b.refused), putOff: len(b.putOff), notices: b.notices}
	for _, n := range b.delivered {
		t.mails += n
	}
	return t
}

// fate places an address in [0, 1).
func fate(address string) float64 {
	h := fnv.New64a()
	io.WriteString(h, address)
	return float64(h.Sum64()%1_000_000) / 1_000_000
}

// NewSession starts one connection (smtp.Backend).
func (b *inbox) NewSession(*smtp.Conn) (smtp.Session, error) { return &delivery{box: b}, nil }

type delivery struct {
	box *inbox
	to  string
}

func (d *delivery) Mail(string, *smtp.MailOptions) error { return nil }

func (d *delivery) Rcpt(to string, _ *smtp.RcptOptions) error {
	d.to = to
	if to == administrator {
		return nil
	}
	b := d.box
	b.mu.Lock()
	defer b.mu.Unlock()
	switch f := fate(to); {
	case f < b.refuse:
		b.refused[to] = true
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such mailbox"}
	case f < b.refuse+b.busy && b.putOff[to] < 1+int(f*1e6)%2:
		b.putOff[to]++
		return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 7, 1}, Message: "greylisted, come back later"}
	}
	return nil
}

func (d *delivery) Data(r io.Reader) error {
	body := bufio.NewReader(r)
	header, err := textproto.NewReader(body).ReadMIMEHeader()
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, body); err != nil {
		return err
	}
	d.box.mu.Lock()
	defer d.box.mu.Unlock()
	if d.to == administrator {
		d.box.notices++
		return nil
	}
	d.box.delivered[header.Get("Message-Id")]++
	return nil
}

func (d *delivery) Reset()        {}
func (d *delivery) Logout() error { return nil }

// discard silences the server's complaints about connections of a worker that
// was killed.
type discard struct{}

func (discard) Printf(string, ...any) {}
func (discard) Println(...any)        {}
