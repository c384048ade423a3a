// Package admin serves the page of the engine: the files that ui is built into,
// which are committed in dist. The page calls the same services as everyone; of
// data there is nothing here.
//
// The handler answers every path below its mount that is no file with the
// page itself, which reads the path and shows what belongs to it. It keeps the
// files in memory and may be used by several goroutines.
package admin

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"fmt"
	"html"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"

	"github.com/heddle-io/heddle/engine/access"
)

//go:embed dist
var built embed.FS

// Config of the page.
type Config struct {
	// Demo is a SubmitRequest as JSON that the page offers to submit where there
	// is no workflow yet. Nil: none.
	Demo []byte
	// Welcome answers who opens the mount without a browser. Nil: as a browser.
	Welcome http.Handler
}

// The names in dist and beside it.
const (
	indexName = "index.html"
	demoName  = "demo.json"
)

// baseTag is what stands in the page's file where the mount's path belongs.
const baseTag = `<base href="/">`

// policy lets the page load from its own origin and be shown in no frame.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'self'; form-action 'none'; frame-ancestors 'none'"

// page serves the files.
type page struct {
	cfg   Config
	files map[string]*asset
	index []byte
}

// asset is one file, ready to be sent.
type asset struct {
	kind string
	tag  string
	body []byte
	gzip func() []byte
}

// New gives the handler of the page. Its paths are those below the mount.
func New(cfg Config) (http.Handler, error) {
	dist, err := fs.Sub(built, "dist")
	if err != nil {
		return nil, err
	}
	return newPage(cfg, dist)
}

func newPage(cfg Config, dist fs.FS) (*page, error) {
	p := &page{cfg: cfg, files: map[string]*asset{}}
	err := fs.WalkDir(dist, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		body, err := fs.ReadFile(dist, name)
		switch {
		case err != nil:
			return err
		case name == indexName:
			p.index = body
		default:
			p.files["/"+name] = newAsset(name, body)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("files of the page: %w", err)
	}
	if bytes.Count(p.index, []byte(baseTag)) != 1 {
		return nil, fmt.Errorf("files of the page: %s does not have %s once", indexName, baseTag)
	}
	if cfg.Demo != nil {
		p.files["/"+demoName] = newAsset(demoName, cfg.Demo)
	}
	return p, nil
}

// kinds are the content types of the files. The system's own table differs from
// machine to machine.
var kinds = map[string]string{
	".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
	".json": "application/json", ".svg": "image/svg+xml", ".png": "image/png", ".txt": "text/plain; charset=utf-8",
}

func newAsset(name string, body []byte) *asset {
	kind := kinds[path.Ext(name)]
	if kind == "" {
		kind = "application/octet-stream"
	}
	return &asset{kind: kind, tag: fmt.Sprintf("%x", sha256.Sum256(body))[:20], body: body, gzip: sync.OnceValue(func() []byte { return packed(body) })}
}

// packed compresses a file; nil if that gains nothing.
func packed(body []byte) []byte {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil
	}
	if _, err := w.Write(body); err != nil || w.Close() != nil || b.Len() >= len(body) {
		return nil
	}
	return b.Bytes()
}

// ServeHTTP implements http.Handler.
func (p *page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "the page is read with GET", http.StatusMethodNotAllowed)
		return
	}
	if f := p.files[r.URL.Path]; f != nil {
		f.serve(w, r)
		return
	}
	switch {
	case wantsPage(r):
		newAsset(indexName, p.indexFor(access.Base(r))).serve(w, r)
	case r.URL.Path == "/" && p.cfg.Welcome != nil:
		w.Header().Set("Vary", "Accept")
		p.cfg.Welcome.ServeHTTP(w, r)
	default:
		http.NotFound(w, r)
	}
}

// wantsPage reports whether a browser asks for a page, rather than a program for
// whatever there is.
func wantsPage(r *http.Request) bool {
	for _, accepted := range strings.Split(r.Header.Get("Accept"), ",") {
		kind, _, _ := strings.Cut(accepted, ";")
		if strings.EqualFold(strings.TrimSpace(kind), "text/html") {
			return true
		}
	}
	return false
}

// indexFor gives the page as it is mounted under base.
func (p *page) indexFor(base string) []byte {
	tag := `<base href="` + html.EscapeString(base) + `/">`
	return bytes.Replace(p.index, []byte(baseTag), []byte(tag), 1)
}

// serve sends a file. Browsers ask each time whether it has changed: the names
// stay the same from version to version.
func (f *asset) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", f.kind)
	h.Set("Cache-Control", "no-cache")
	h.Set("Vary", "Accept, Accept-Encoding")
	h.Set("Content-Security-Policy", policy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	body, tag := f.body, f.tag
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		if small := f.gzip(); small != nil {
			h.Set("Content-Encoding", "gzip")
			body, tag = small, tag+"-gzip"
		}
	}
	tag = strconv.Quote(tag)
	h.Set("ETag", tag)
	for _, known := range strings.Split(r.Header.Get("If-None-Match"), ",") {
		if known = strings.TrimPrefix(strings.TrimSpace(known), "W/"); known == tag || known == "*" {
			h.Del("Content-Encoding")
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodHead {
		return
	}
	_, _ = w.Write(body) // the caller has gone if this fails
}
