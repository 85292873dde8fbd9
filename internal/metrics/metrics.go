// Package metrics tells Prometheus what policyd counts. It is the only importer of the
// Prometheus library.
//
//	durations := metrics.NewDurations()
//	mux.Handle("GET /metrics", metrics.Handler(durations, func() metrics.Snapshot { return ... }, log))
//	...
//	durations.Cold(took)
//
// The rooms count for themselves. When a scrape comes, the function takes a Snapshot of
// their counters, and the families, one table, make metrics of it. Only Durations are kept
// here, in histograms, which nobody waits for.
//
// # Rules
//
// Names begin with tlsverdict_, counters end in _total, and units are seconds and bytes. No
// label has a domain, a host or a client: those are without bound, and somebody's secret. What
// labels there are is in Labels, and each takes its values from a closed set, or from the
// configuration.
//
// What Go and the kernel tell of the process is there as well (go_*, process_*).
//
// # Limits
//
// At most 4 scrapes at once, each 10 s at most.
//
// # What it does not do
//
// It keeps nothing: counters begin anew with the process. It pushes nothing to anybody.
package metrics

import (
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	scrapes    = 4
	scrapeTime = 10 * time.Second
)

// Durations takes how long things took. It is safe for concurrent use. A nil one forgets
// them.
type Durations struct {
	cold, fetch prometheus.Histogram
	question    *prometheus.HistogramVec
}

// NewDurations returns Durations without any.
func NewDurations() *Durations {
	return &Durations{
		cold:     prometheus.NewHistogram(histogram(coldName, []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 15})),
		fetch:    prometheus.NewHistogram(histogram(fetchName, []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30})),
		question: prometheus.NewHistogramVec(histogram(questionName, []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5}), []string{"upstream"}),
	}
}

// histogram is one with the given buckets for those who scrape text, and native ones, of a
// tenth more each, for those who scrape protobuf.
func histogram(name string, buckets []float64) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Name: name, Help: help(name), Buckets: buckets,
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160, NativeHistogramMinResetDuration: time.Hour,
	}
}

// Cold takes how long an asker waited for a verdict that was not known.
func (d *Durations) Cold(took time.Duration) {
	if d != nil {
		d.cold.Observe(took.Seconds())
	}
}

// Question takes how long a name server took to answer.
func (d *Durations) Question(upstream netip.AddrPort, took time.Duration) {
	if d != nil {
		d.question.WithLabelValues(upstream.String()).Observe(took.Seconds())
	}
}

// Fetch takes how long a policy fetch took.
func (d *Durations) Fetch(took time.Duration) {
	if d != nil {
		d.fetch.Observe(took.Seconds())
	}
}

// Handler answers scrapes. read is called for each, by several goroutines at once.
func Handler(d *Durations, read func() Snapshot, log *slog.Logger) http.Handler {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(d.cold, d.fetch, d.question, newCollector(read),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		// What can be told is told, and the rest is in the log.
		ErrorHandling: promhttp.ContinueOnError, ErrorLog: errorLog{log},
		MaxRequestsInFlight: scrapes, Timeout: scrapeTime, EnableOpenMetrics: true,
	})
}

// errorLog takes what promhttp has to say.
type errorLog struct{ log *slog.Logger }

// Println implements promhttp.Logger.
func (l errorLog) Println(v ...any) {
	l.log.Error("a defect in tlsverdict spoils a metric", "error", v)
}

// collector makes metrics of snapshots.
type collector struct {
	read  func() Snapshot
	descs map[string]*prometheus.Desc
}

func newCollector(read func() Snapshot) *collector {
	c := &collector{read: read, descs: make(map[string]*prometheus.Desc)}
	for _, f := range families() {
		if f.kind != Histogram {
			c.descs[f.name] = prometheus.NewDesc(f.name, f.help, f.labels, nil)
		}
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		descs <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	s := c.read()
	for _, f := range families() {
		if f.kind == Histogram {
			continue
		}
		kind := prometheus.CounterValue
		if f.kind == Gauge {
			kind = prometheus.GaugeValue
		}
		f.read(&s, func(value float64, labels ...string) {
			out <- prometheus.MustNewConstMetric(c.descs[f.name], kind, value, labels...)
		})
	}
}
