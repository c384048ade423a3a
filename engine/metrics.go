package engine

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	metrics "github.com/hashicorp/go-metrics/compat"
	raftsink "github.com/hashicorp/go-metrics/compat/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/heddle-io/heddle/engine/model"
)

// raftMetrics are those of Raft itself, which go through a place that the whole
// process shares.
var raftMetrics struct {
	once     sync.Once
	registry *prometheus.Registry
	err      error
}

// CollectRaftMetrics adds what Raft measures of itself to the metrics of this
// process's engines. Raft has one place for it per process, the global one of
// go-metrics, which this takes: call it in a program's main, and not where
// something else uses go-metrics. It must come before New; repeated calls do
// nothing.
func CollectRaftMetrics() error {
	r := &raftMetrics
	r.once.Do(func() {
		registry := prometheus.NewRegistry()
		sink, err := raftsink.NewPrometheusSinkFrom(raftsink.PrometheusOpts{Registerer: registry, Expiration: time.Minute})
		if err != nil {
			r.err = fmt.Errorf("metrics of raft: %w", err)
			return
		}
		config := metrics.DefaultConfig("heddle")
		config.EnableHostname, config.EnableRuntimeMetrics = false, false
		if _, err := metrics.NewGlobal(config, sink); err != nil {
			r.err = fmt.Errorf("metrics of raft: %w", err)
			return
		}
		r.registry = registry
	})
	return r.err
}

// meters is what an engine measures of itself.
type meters struct {
	registry *prometheus.Registry
	granted  prometheus.Counter
	flushed  prometheus.Histogram // ends per transaction
	flushing prometheus.Histogram // seconds of a transaction
	failures prometheus.Counter
}

func newMeters(e *Engine) *meters {
	m := &meters{
		registry: prometheus.NewRegistry(),
		granted:  prometheus.NewCounter(prometheus.CounterOpts{Name: "heddle_grants_total", Help: "Jobs that this node, leading, has handed to workers."}),
		flushed: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "heddle_flush_reports", Help: "Ends of attempts written in one transaction.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 7)}),
		flushing: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "heddle_flush_seconds", Help: "Time of one transaction that writes ends of attempts.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 12)}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{Name: "heddle_flush_failures_total", Help: "Transactions of ends of attempts that failed or ended in doubt."}),
	}
	m.registry.MustRegister(m.granted, m.flushed, m.flushing, m.failures, state{e},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// handler serves the metrics as Prometheus reads them.
func (m *meters) handler() http.Handler {
	all := prometheus.Gatherers{m.registry}
	if raftMetrics.registry != nil {
		all = append(all, raftMetrics.registry)
	}
	return promhttp.HandlerFor(all, promhttp.HandlerOpts{})
}

// measured measures the flushes.
type measured struct {
	factStore
	m *meters
}

// Flush implements factStore.
func (s measured) Flush(ctx context.Context, reign model.Reign, finishes []model.Finish) ([]model.Flushed, model.Effects, error) {
	begin := time.Now()
	flushed, effects, err := s.factStore.Flush(ctx, reign, finishes)
	if err != nil {
		s.m.failures.Inc()
	} else {
		s.m.flushed.Observe(float64(len(finishes)))
		s.m.flushing.Observe(time.Since(begin).Seconds())
	}
	return flushed, effects, err
}

// state describes the node at the moment it is asked.
type state struct{ e *Engine }

var (
	leaderDesc   = prometheus.NewDesc("heddle_leader", "1: this node leads and hands out jobs.", nil, nil)
	knownDesc    = prometheus.NewDesc("heddle_leader_known", "1: this node knows a leader, itself or another one.", nil, nil)
	membersDesc  = prometheus.NewDesc("heddle_members", "Members of the cluster: those that vote, and those that are catching up.", []string{"suffrage"}, nil)
	quorumDesc   = prometheus.NewDesc("heddle_quorum", "Voters that must answer.", nil, nil)
	contactDesc  = prometheus.NewDesc("heddle_member_last_contact_seconds", "Time since a member's last answer; only on the leader.", []string{"member"}, nil)
	lagDesc      = prometheus.NewDesc("heddle_member_lag_entries", "Log entries that a member is behind; only on the leader.", []string{"member"}, nil)
	termDesc     = prometheus.NewDesc("heddle_term", "Term of Raft.", nil, nil)
	epochDesc    = prometheus.NewDesc("heddle_epoch", "Epoch of the newest reign.", nil, nil)
	indexDesc    = prometheus.NewDesc("heddle_log_index", "Places in the log.", []string{"at"}, nil)
	electedDesc  = prometheus.NewDesc("heddle_elections_total", "Elections this node stood for.", nil, nil)
	termsDesc    = prometheus.NewDesc("heddle_terms_total", "Terms this node has seen begin.", nil, nil)
	leasesDesc   = prometheus.NewDesc("heddle_leases", "Jobs that workers hold.", nil, nil)
	sessionsDesc = prometheus.NewDesc("heddle_sessions", "Sessions of workers.", nil, nil)
	endedDesc    = prometheus.NewDesc("heddle_attempts_ended_total", "Ends of attempts that this node has written.", nil, nil)
	troubleDesc  = prometheus.NewDesc("heddle_trouble", "1: the node waits for something or suffers from something; cluster status says what.", nil, nil)
	poolDesc     = prometheus.NewDesc("heddle_postgres_connections", "Connections to Postgres.", []string{"pool", "state"}, nil)
	waitsDesc    = prometheus.NewDesc("heddle_postgres_acquire_wait_seconds_total", "Time spent waiting for a connection.", []string{"pool"}, nil)
	expiryDesc   = prometheus.NewDesc("heddle_certificate_not_after_seconds", "When the certificate expires, since the Unix epoch.", nil, nil)
	buildDesc    = prometheus.NewDesc("heddle_build_info", "1, with the version.", []string{"version", "node"}, nil)
)

// Describe implements prometheus.Collector.
func (s state) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		leaderDesc, knownDesc, membersDesc, quorumDesc, contactDesc, lagDesc, termDesc, epochDesc, indexDesc, electedDesc, termsDesc,
		leasesDesc, sessionsDesc, endedDesc, troubleDesc, poolDesc, waitsDesc, expiryDesc, buildDesc,
	} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (s state) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	st := s.e.node.Status()
	_, known := s.e.node.LeaderHint()
	gauge(leaderDesc, flag(st.Dispatching))
	gauge(knownDesc, flag(known))
	gauge(quorumDesc, float64(st.Quorum))
	voters := 0
	for _, m := range st.Members {
		if m.Voter {
			voters++
		}
		if st.State == "leader" && m.ID != st.Node && m.LastContact >= 0 {
			gauge(contactDesc, m.LastContact.Seconds(), m.ID)
			gauge(lagDesc, float64(st.LastIndex-min(st.LastIndex, m.Match)), m.ID)
		}
	}
	gauge(membersDesc, float64(voters), "voter")
	gauge(membersDesc, float64(len(st.Members)-voters), "nonvoter")
	gauge(termDesc, float64(st.Term))
	gauge(epochDesc, float64(st.Epoch))
	for at, index := range map[string]uint64{"last": st.LastIndex, "commit": st.CommitIndex, "applied": st.AppliedIndex, "snapshot": st.SnapshotIndex} {
		gauge(indexDesc, float64(index), at)
	}
	counter(electedDesc, float64(st.Elections))
	counter(termsDesc, float64(st.Terms))
	gauge(leasesDesc, float64(st.Leases))
	gauge(sessionsDesc, float64(st.Sessions))
	counter(endedDesc, float64(s.e.completer.finished.Load()))
	gauge(troubleDesc, flag(s.e.cluster.trouble(st) != ""))
	for _, p := range s.e.store.Pools() {
		gauge(poolDesc, float64(p.Busy), p.Name, "busy")
		gauge(poolDesc, float64(p.Idle), p.Name, "idle")
		gauge(poolDesc, float64(p.Max), p.Name, "max")
		counter(waitsDesc, p.Waited.Seconds(), p.Name)
	}
	if id := s.e.cluster.identity; id != nil {
		gauge(expiryDesc, float64(id.NotAfter().Unix()))
	}
	gauge(buildDesc, 1, s.e.cfg.Version, st.Node)
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
