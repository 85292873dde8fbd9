package engine

import (
	"log/slog"
	"maps"
	"strings"
	"sync"

	"github.com/maypok86/otter/v2"

	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/verdict"
)

// remembered is of how many destinations it is kept what was said of them, so that it is
// said once. Past it the one that was ruled on least lately is said again.
const remembered = 8192

// observer counts what is observed, and says it once each time it changes.
type observer struct {
	// silent: MTAs are told of no policy, whatever the verdict.
	silent bool
	log    *slog.Logger
	said   *otter.Cache[nexthop.Destination, sight]

	mu      sync.Mutex
	differs uint64
	codes   map[verdict.Code]uint64
}

// sight is what was seen of a destination beside its verdict.
type sight struct {
	// would is what would be answered if nothing were only observed, where that is
	// something else; unbelieved are the signals that are not believed.
	would, unbelieved string
}

func newObserver(silent bool, log *slog.Logger) (*observer, error) {
	said, err := otter.New(&otter.Options[nexthop.Destination, sight]{MaximumSize: remembered})
	return &observer{silent: silent, log: log, said: said, codes: make(map[verdict.Code]uint64)}, err
}

// see looks at a ruling.
func (o *observer) see(d nexthop.Destination, r *verdict.Ruling) {
	would := o.would(r)
	now := sight{unbelieved: o.count(r, would != nil)}
	if would != nil {
		now.would = would.Verdict.Name() + " by " + would.Source.String()
	}
	before, _ := o.said.GetIfPresent(d)
	if now == before {
		return
	}
	if now == (sight{}) {
		o.said.Invalidate(d)
	} else {
		o.said.Set(d, now)
	}
	if now.unbelieved != before.unbelieved && now.unbelieved != "" {
		o.log.Info("a signal is seen and not believed", "dest", d.String(), "reason", now.unbelieved)
	}
	switch {
	case now.would == before.would:
	case would == nil:
		o.log.Info("what is only observed would no longer change the answer", "dest", d.String(), "answered", o.answered(r))
	default:
		o.log.Info("what is only observed would change the answer", "dest", d.String(), "answered", o.answered(r),
			"would_be", would.Verdict.Name(), "source", would.Source.String(), "reason", string(would.Reason.Code))
	}
}

// would is what would be answered if nothing were only observed, neither a signal nor
// the whole; nil where that is what is answered.
func (o *observer) would(r *verdict.Ruling) *verdict.Would {
	if !o.silent || r.Would != nil {
		return r.Would
	}
	if _, none := r.Verdict.(verdict.NoPolicy); none {
		return nil
	}
	return &verdict.Would{Verdict: r.Verdict, Source: r.Source, Reason: r.Reasons[len(r.Reasons)-1]}
}

func (o *observer) answered(r *verdict.Ruling) string {
	if o.silent {
		return verdict.NoPolicy{}.Name()
	}
	return r.Verdict.Name()
}

// count counts the signals that a ruling tells of, and returns those not believed.
func (o *observer) count(r *verdict.Ruling, differs bool) (unbelieved string) {
	var list []string
	o.mu.Lock()
	defer o.mu.Unlock()
	if differs {
		o.differs++
	}
	for _, reason := range r.Reasons {
		if !reason.Code.Signal() {
			continue
		}
		o.codes[reason.Code]++
		if reason.Code.Unbelieved() {
			list = append(list, string(reason.Code))
		}
	}
	return strings.Join(list, " ")
}

// stats fills in what was counted.
func (o *observer) stats(s *Stats) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s.Observed, s.Signals = o.differs, maps.Clone(o.codes)
}
