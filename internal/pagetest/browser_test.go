package pagetest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/heddle-io/heddle/internal/pgtest"
)

const (
	// required in HEDDLE_BROWSER: a machine without a browser fails.
	required = "required"
	// patience is far beyond what a page takes on a busy machine.
	patience = 30 * time.Second
)

var chromium struct {
	once  sync.Once
	ctx   context.Context
	close func()
	err   error
}

func TestMain(m *testing.M) {
	code := pgtest.Main(m)
	if chromium.close != nil {
		chromium.close()
	}
	os.Exit(code)
}

// browser starts Chromium once for all tests.
func browser(t *testing.T) context.Context {
	t.Helper()
	chromium.once.Do(func() {
		path := ""
		for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
			if path, _ = exec.LookPath(name); path != "" {
				break
			}
		}
		if path == "" {
			chromium.err = fmt.Errorf("no chromium on the PATH")
			return
		}
		options := append(chromedp.DefaultExecAllocatorOptions[:],
			chromedp.ExecPath(path), chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("force-color-profile", "srgb"))
		if os.Geteuid() == 0 {
			options = append(options, chromedp.NoSandbox)
		}
		allocated, stopAllocator := chromedp.NewExecAllocator(context.Background(), options...)
		ctx, stop := chromedp.NewContext(allocated)
		chromium.ctx, chromium.close = ctx, func() { stop(); stopAllocator() }
		chromium.err = chromedp.Do(ctx)
	})
	if chromium.err != nil {
		if os.Getenv("HEDDLE_BROWSER") != required && chromium.ctx == nil {
			t.Skipf("%v; install it to test the admin page (HEDDLE_BROWSER=%s makes this a failure)", chromium.err, required)
		}
		t.Fatal(chromium.err)
	}
	return chromium.ctx
}

// page is a tab, with what went wrong in it.
type page struct {
	t    *testing.T
	ctx  context.Context
	base string
	// close closes the tab before the end of the test.
	close func()

	mu     sync.Mutex
	faults []string
}

// look is how a tab is set up.
type look struct {
	width, height int64
	scale         float64
	dark          bool
	touch         bool
}

var (
	wide   = look{width: 1440, height: 900, scale: 1}
	narrow = look{width: 375, height: 812, scale: 2, touch: true}
)

func (l look) inTheDark() look { l.dark = true; return l }

// open opens base+path in a tab of its own. At the end of the test the tab must
// have seen no script error, no refusal by the security policy, no request to
// another host.
func open(t *testing.T, base, path string, l look) *page {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser(t))
	t.Cleanup(cancel)
	p := &page{t: t, ctx: ctx, close: cancel, base: strings.TrimSuffix(base, "/")}
	own, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	if err := chromedp.Listen(ctx, func(event any) { p.heed(event, own.Host) }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, f := range p.faults {
			t.Error(f)
		}
	})
	scheme := "light"
	if l.dark {
		scheme = "dark"
	}
	p.run(command(network.Enable, network.EnableParams{}), command(log.Enable, cdp.Empty{}),
		chromedp.EmulateViewport(l.width, l.height, chromedp.EmulateScale(l.scale)),
		command(emulation.SetTouchEmulationEnabled, emulation.SetTouchEmulationEnabledParams{Enabled: l.touch}),
		command(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}}}))
	p.visit(path)
	return p
}

// command is an action that sends one command of the browser's protocol.
func command[P, R any](cmd cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, cmd, params)
		return err
	})
}

// heed notes what must not happen.
func (p *page) heed(event any, host string) {
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		d := e.ExceptionDetails
		text := d.Text
		if d.Exception != nil {
			text += " " + d.Exception.Description
		}
		p.fault("script error: %s", text)
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError && e.Entry.Source != log.EntrySourceNetwork {
			p.fault("console: %s %s", e.Entry.Text, e.Entry.URL)
		}
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError {
			var words []string
			for _, a := range e.Args {
				words = append(words, a.Description+string(a.Value))
			}
			p.fault("console.error: %s", strings.Join(words, " "))
		}
	case *network.EventRequestWillBeSent:
		if u, err := url.Parse(e.Request.URL); err == nil && strings.HasPrefix(u.Scheme, "http") && u.Host != host {
			p.fault("request to another host: %s", e.Request.URL)
		}
	}
}

func (p *page) fault(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, fmt.Sprintf(format, args...))
}

// visit goes to a path of the page.
func (p *page) visit(path string) {
	p.t.Helper()
	p.run(chromedp.Navigate(p.base + path))
}

// run carries actions out within patience.
func (p *page) run(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		p.fail(err)
	}
}

// fail ends the test with a picture of what there is.
func (p *page) fail(err error) {
	p.t.Helper()
	p.picture("failure-" + strings.ReplaceAll(p.t.Name(), "/", "-"))
	p.t.Fatalf("%v\nthe page says:\n%s", err, p.text())
}

// text is what a person can read on the page.
func (p *page) text() string {
	ctx, cancel := context.WithTimeout(p.ctx, 5*time.Second)
	defer cancel()
	s, err := chromedp.Run(ctx, chromedp.Evaluate[string](`document.body ? document.body.innerText : ""`))
	if err != nil {
		return err.Error()
	}
	return s
}

// ask evaluates an expression; a promise is awaited.
func ask[T any](p *page, js string) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](js, chromedp.EvalAwaitPromise))
	if err != nil {
		p.fail(fmt.Errorf("%s: %w", js, err))
	}
	return v
}

// until waits for an expression to hold. It asks again and again from here: the
// page's policy lets no script be made of text.
func (p *page) until(js string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		holds, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("!!("+js+")"))
		if err == nil && holds {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			p.fail(fmt.Errorf("never holds: %s (%w)", js, errors.Join(err, ctx.Err())))
		}
	}
}

// sees waits until each of the texts can be read, letter case and space aside.
func (p *page) sees(texts ...string) {
	p.t.Helper()
	for _, s := range texts {
		p.until(fmt.Sprintf(`document.body.innerText.replace(/\s+/g, " ").toLowerCase().includes(%q)`, strings.ToLower(s)))
	}
}

// misses waits until none of the texts can be read.
func (p *page) misses(texts ...string) {
	p.t.Helper()
	for _, s := range texts {
		p.until(fmt.Sprintf(`!document.body.innerText.replace(/\s+/g, " ").toLowerCase().includes(%q)`, strings.ToLower(s)))
	}
}

// found is a script that names the elements a person would call by a name: what
// can be clicked, with this label or text, the shortest first.
const found = `((name) => {
  const label = (e) => (e.getAttribute("aria-label") || e.innerText || e.textContent || "").replace(/\s+/g, " ").trim();
  const seen = (e) => { const r = e.getBoundingClientRect(); return r.width > 0 && r.height > 0 && getComputedStyle(e).visibility !== "hidden"; };
  return [...document.querySelectorAll("a,button,summary,label,input,select,[role=button],[role=tab],[role=link],[role=menuitem],[role=option],[role=checkbox],[tabindex]")]
    .filter((e) => seen(e) && !e.disabled && label(e).toLowerCase().includes(name.toLowerCase()))
    .sort((a, b) => label(a).length - label(b).length);
})`

// click clicks what bears the name, with the mouse.
func (p *page) click(name string) {
	p.t.Helper()
	p.until(fmt.Sprintf(`%s(%q).length > 0`, found, name))
	p.clickAt(fmt.Sprintf(`%s(%q)[0]`, found, name))
}

// press clicks the first element that a CSS selector finds.
func (p *page) press(selector string) {
	p.t.Helper()
	p.until(fmt.Sprintf(`document.querySelector(%q) !== null`, selector))
	p.clickAt(fmt.Sprintf(`document.querySelector(%q)`, selector))
}

func (p *page) clickAt(element string) {
	p.t.Helper()
	at := ask[[]float64](p, fmt.Sprintf(`(() => { const e = %s; e.scrollIntoView({block: "center", inline: "nearest"}); const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()`, element))
	p.run(chromedp.MouseClickXY(at[0], at[1]))
}

// offers tells whether something can be clicked that bears the name.
func (p *page) offers(name string) bool {
	p.t.Helper()
	return ask[bool](p, fmt.Sprintf(`%s(%q).length > 0`, found, name))
}

// types types text and keys (kb.Enter and such) at the focus.
func (p *page) types(keys string) {
	p.t.Helper()
	p.run(chromedp.KeyEvent(keys))
}

// settled waits until nothing is being loaded, for the sake of pictures.
func (p *page) settled() {
	p.t.Helper()
	p.misses("Loading…")
	p.until(`document.querySelector("[aria-busy=true]") === null`)
}

// address is the page's address below its base.
func (p *page) address() string {
	return strings.TrimPrefix(ask[string](p, `location.href`), p.base)
}

// enter and escape are keys by name.
const (
	enter  = kb.Enter
	escape = kb.Escape
)

// screenshots is the folder for pictures.
func screenshots() string {
	if dir := os.Getenv("HEDDLE_SCREENSHOTS"); dir != "" {
		return dir
	}
	return filepath.Join(os.TempDir(), "heddle-screenshots")
}

// picture writes what the tab shows.
func (p *page) picture(name string) {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err == nil {
		if err = os.MkdirAll(screenshots(), 0o755); err == nil {
			err = os.WriteFile(filepath.Join(screenshots(), name+".png"), png, 0o644)
		}
	}
	if err != nil {
		p.t.Errorf("screenshot %s: %v", name, err)
	}
}
