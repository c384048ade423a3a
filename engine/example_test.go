package engine_test

import (
	"context"
	"log"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/heddle-io/heddle/engine"
)

// An engine as a part of a program of one's own.
func Example() {
	cfg := engine.DefaultConfig()
	cfg.Postgres = "postgres://heddle@localhost/heddle"
	cfg.DataDir = "/var/lib/shop/heddle"
	cfg.Listen = "127.0.0.1:7400" // where workers and clients find it
	cfg.Logger = slog.Default()
	e, err := engine.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := e.Start(ctx); err != nil {
		log.Fatal(err)
	}
	<-ctx.Done()
	within, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := e.Stop(within); err != nil {
		log.Fatal(err)
	}
}

// The engine's API in a server that serves other things too.
func ExampleEngine_Handler() {
	cfg := engine.DefaultConfig()
	cfg.Postgres, cfg.DataDir = "postgres://heddle@localhost/heddle", "/var/lib/shop/heddle"
	e, err := engine.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /about", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("a shop")) })
	mux.Handle("/", e.Handler()) // unavailable until Start has returned
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true) // gRPC and workers need HTTP/2
	server := &http.Server{Addr: "127.0.0.1:8080", Handler: mux, Protocols: &protocols}
	go func() {
		if err := e.Start(context.Background()); err != nil {
			log.Fatal(err)
		}
	}()
	log.Fatal(server.ListenAndServe())
}
