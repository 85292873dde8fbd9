package daemon

import (
	"log/slog"
	"syscall"

	"tlsverdict/internal/config"
	"tlsverdict/internal/httpd"
	"tlsverdict/internal/probe"
	"tlsverdict/internal/resolve"
	"tlsverdict/postfixmap"
)

// File descriptors are what an attack uses up first, and a store or a lookup that gets
// none fails in a way that nobody expects. So they are shared out at the start, and no
// part can take what another needs.
const (
	// ownFiles are for the store, its directory and a damaged file beside it, the
	// log, the files that a reload reads, the control socket, and the runtime.
	ownFiles = 48
	// fetchFiles is what one policy fetch may hold: a connection to each of the
	// addresses that it races.
	fetchFiles = 6
	// generations is how many stacks there are while a reload retires the old one.
	generations = 2
	// leastQuestions, leastFetches and leastConnections are what is kept of each
	// where descriptors are scarcest.
	leastQuestions   = 8
	leastFetches     = 1
	leastConnections = 8
	leastProbes      = 2 // one for each prober
)

// limits is how many of each there may be at once.
type limits struct {
	files, connections, questions, fetches int
	// probes hold one connection each.
	probes int
}

// shareOut divides so many file descriptors. Nothing gets more than it is wanted to
// have; where they do not suffice, each of a stack's two parts is held to an eighth of
// them, so that at most half is not for connections.
func shareOut(files, listeners int, wanted limits) limits {
	rest := max(0, files-ownFiles-2*listeners-postfixmap.MaxNewcomers)
	probes := min(wanted.probes, max(leastProbes, rest/16/generations))
	rest = max(0, rest-generations*probes)
	l := limits{
		files: files, probes: probes,
		questions: max(leastQuestions, min(wanted.questions, rest/8/generations)),
		fetches:   max(leastFetches, min(wanted.fetches, rest/8/generations/fetchFiles)),
	}
	spare := rest - generations*(wanted.questions+fetchFiles*wanted.fetches)
	if spare >= wanted.connections {
		return limits{files: files, connections: wanted.connections, questions: wanted.questions, fetches: wanted.fetches, probes: probes}
	}
	l.connections = max(leastConnections, min(wanted.connections, rest-generations*(l.questions+fetchFiles*l.fetches)))
	return l
}

// fits reports whether what was shared out is no more than there is.
func (l limits) fits(listeners int) bool {
	return ownFiles+2*listeners+postfixmap.MaxNewcomers+l.connections+generations*(l.questions+fetchFiles*l.fetches+l.probes) <= l.files
}

// openFiles raises the soft limit of file descriptors to the hard one and returns it.
func openFiles() (int, error) {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return 0, err
	}
	if raised := (syscall.Rlimit{Cur: r.Max, Max: r.Max}); r.Cur < r.Max && syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised) == nil {
		r = raised
	}
	const enough = 1 << 24
	return int(min(r.Cur, enough)), nil
}

// probers is how many probers a configuration has: one for the port of implicit TLS, one
// for banners.
func probers(cfg *config.Config) int {
	n := 0
	if cfg.Signals.Implicit.On {
		n++
	}
	if learns(cfg) {
		n++
	}
	return n
}

// probesEach is how many probes each of them may have under way; 0 leaves the default.
func (n Network) probesEach(cfg *config.Config) int {
	if n.Probes == 0 {
		return 0
	}
	return max(1, n.Probes/max(1, probers(cfg)))
}

// limit works the limits out and says them.
func limit(cfg *config.Config, log *slog.Logger) limits {
	listeners := len(cfg.Socketmap.Listen)
	wanted := limits{connections: cfg.Socketmap.MaxConnections, questions: resolve.DefaultMaxInflight, fetches: maxFetches}
	wanted.probes = probers(cfg) * probe.DefaultAtOnce
	if cfg.HTTP.Listen.IsValid() {
		// Each of its connections holds one, and so does its listener.
		listeners += httpd.MaxConnections/2 + 1
	}
	files, err := openFiles()
	if err != nil {
		log.Error("the limit of open files is not known; nothing is shared out", "error", err)
		return wanted
	}
	l := shareOut(files, listeners, wanted)
	log.Info("limits", "files", l.files, "connections", l.connections, "dns_questions", l.questions, "fetches", l.fetches, "probes", l.probes)
	const wayOut = "raise the limit of open files (systemd: LimitNOFILE=, shell: ulimit -Hn), or lower socketmap.max_connections"
	switch {
	case !l.fits(listeners):
		log.Error("there are too few file descriptors to work with", "files", l.files, "way_out", wayOut)
	case l != (limits{l.files, wanted.connections, wanted.questions, wanted.fetches, wanted.probes}):
		log.Warn("there are fewer file descriptors than the configuration needs; limits are lowered",
			"files", l.files, "wanted_connections", wanted.connections, "connections", l.connections,
			"dns_questions", l.questions, "fetches", l.fetches, "probes", l.probes, "way_out", wayOut)
	}
	return l
}
