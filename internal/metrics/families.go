package metrics

import (
	"slices"
	"strings"
	"time"

	"tlsverdict/internal/fetch"
	"tlsverdict/internal/gather"
	"tlsverdict/internal/readiness"
)

// Kind is what a metric's value does.
type Kind string

// The kinds of Prometheus that are used.
const (
	Counter   Kind = "counter"
	Gauge     Kind = "gauge"
	Histogram Kind = "histogram"
)

// The histograms.
const (
	coldName     = "tlsverdict_cold_answer_duration_seconds"
	questionName = "tlsverdict_dns_answer_duration_seconds"
	fetchName    = "tlsverdict_policy_fetch_duration_seconds"
)

// emit takes one value, with the values of the family's labels.
type emit func(value float64, labels ...string)

// family is a metric, and how it is read; a histogram is not.
type family struct {
	kind       Kind
	name, help string
	labels     []string
	read       func(*Snapshot, emit)
}

// families are all metrics, in the order of docs/monitoring.md.
func families() []family {
	return slices.Concat(answerFamilies(), cacheFamilies(), dnsFamilies(), policyFamilies(), storeFamilies(), fleetFamilies(),
		connectionFamilies(), probeFamilies(), daemonFamilies())
}

// Family tells of a metric.
type Family struct {
	Kind       Kind
	Name, Help string
	Labels     []string
}

// Families tells of all metrics.
func Families() []Family {
	var all []Family
	for _, f := range families() {
		all = append(all, Family{f.kind, f.name, f.help, f.labels})
	}
	return all
}

// help is that of a name.
func help(name string) string {
	for _, f := range families() {
		if f.name == name {
			return f.help
		}
	}
	panic("metrics: no family " + name)
}

// one reads a single value.
func one[N int | uint64](of func(*Snapshot) N) func(*Snapshot, emit) {
	return func(s *Snapshot, e emit) { e(float64(of(s))) }
}

// yes is 1 for true.
func yes(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// seconds is a time as Prometheus has it.
func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func answerFamilies() []family {
	return []family{
		{Counter, "tlsverdict_answers_total", "Answers to mail servers, by the map asked and what the verdict was.", []string{"map", "verdict"}, answers},
		{Histogram, coldName, "How long askers waited for a verdict that was not known.", nil, nil},
		{Counter, "tlsverdict_rulings_total", "Verdicts worked out, by what they rest on.", []string{"verdict", "source"}, rulings},
		{Counter, "tlsverdict_deferrals_total", "Verdicts worked out that have mail wait, by the decisive reason and whose fault it is.", []string{"reason", "fault"}, deferrals},
		{Counter, "tlsverdict_verdict_changes_total", "Verdicts that are others than the last ones of their destinations.", nil, one(func(s *Snapshot) uint64 { return s.History.Changes })},
		{Counter, "tlsverdict_downgrades_total", "Those that promise less.", nil, one(func(s *Snapshot) uint64 { return s.History.Downgrades })},
		{
			Counter, "tlsverdict_observed_rulings_total", "Verdicts that would have been others if nothing were only observed.", nil,
			one(func(s *Snapshot) uint64 { return s.Engine.Observed }),
		},
		{Counter, "tlsverdict_signals_total", "Verdicts that tell of a signal without a standard, believed or not, by reason.", []string{"reason"}, signals},
	}
}

func answers(s *Snapshot, e emit) {
	for kind, n := range s.Answers {
		e(float64(n), kind.Map, kind.Outcome)
	}
}

func rulings(s *Snapshot, e emit) {
	for kind, n := range s.Engine.Rulings {
		e(float64(n), kind.Verdict, kind.Source.String())
	}
}

func deferrals(s *Snapshot, e emit) {
	for kind, n := range s.Engine.Deferrals {
		e(float64(n), string(kind.Reason), kind.Fault.String())
	}
}

func signals(s *Snapshot, e emit) {
	for code, n := range s.Engine.Signals {
		e(float64(n), string(code))
	}
}

func cacheFamilies() []family {
	return []family{
		{Counter, "tlsverdict_cache_hits_total", "Questions whose verdict was known.", nil, one(func(s *Snapshot) uint64 { return s.Engine.Hits })},
		{Counter, "tlsverdict_cache_misses_total", "Questions whose verdict was not known.", nil, one(func(s *Snapshot) uint64 { return s.Engine.Misses })},
		{Counter, "tlsverdict_cache_misses_joined_total", "Those that waited for work that was under way.", nil, one(func(s *Snapshot) uint64 { return s.Engine.Joined })},
		{Counter, "tlsverdict_cache_misses_given_up_total", "Those that were told to come back, since it took too long.", nil, one(func(s *Snapshot) uint64 { return s.Engine.Lost })},
		{Counter, "tlsverdict_flights_total", "Destinations worked out.", nil, one(func(s *Snapshot) uint64 { return s.Engine.Flights })},
		{Counter, "tlsverdict_refreshes_total", "Those begun before the verdict ended.", nil, one(func(s *Snapshot) uint64 { return s.Engine.Refreshes })},
		{Counter, "tlsverdict_flights_refused_total", "Destinations not worked out, since too many were waiting.", nil, one(func(s *Snapshot) uint64 { return s.Engine.Busy })},
		{Counter, "tlsverdict_flight_defects_total", "Destinations not worked out because of a defect in tlsverdict.", nil, one(func(s *Snapshot) uint64 { return s.Engine.Panics })},
		{Gauge, "tlsverdict_cache_entries", "Verdicts kept, about.", nil, one(func(s *Snapshot) int { return s.Engine.Entries })},
		{Gauge, "tlsverdict_cache_entries_limit", "Verdicts that may be kept (cache.entries).", nil, one(func(s *Snapshot) int { return s.CacheLimit })},
		{Counter, "tlsverdict_cache_evictions_total", "Verdicts dropped before their time to make room.", nil, one(func(s *Snapshot) uint64 { return s.Engine.Evicted })},
	}
}

func dnsFamilies() []family {
	upstream := []string{"upstream"}
	return []family{
		{Counter, "tlsverdict_dns_questions_total", "Questions to name servers, by what came of them.", []string{"upstream", "result"}, questions},
		{Histogram, questionName, "How long name servers took to answer.", upstream, nil},
		{Gauge, "tlsverdict_dns_upstream_up", "1 if the last examination found that the name server answers.", upstream, func(s *Snapshot, e emit) {
			for _, srv := range s.Health.Servers {
				e(yes(srv.Answers), srv.Addr.String())
			}
		}},
		{Gauge, "tlsverdict_dns_upstream_validates", "1 if it found that DNSSEC proof can be had through it.", upstream, func(s *Snapshot, e emit) {
			for _, srv := range s.Health.Servers {
				e(yes(srv.Validates), srv.Addr.String())
			}
		}},
		{Counter, "tlsverdict_dnssec_answers_total", "DNS answers by what is proven of them.", []string{"proof"}, func(s *Snapshot, e emit) {
			for proof, n := range s.Resolve.Proofs {
				e(float64(n), proof.String())
			}
		}},
		{Counter, "tlsverdict_budget_exhausted_total", "Lookups that ended because one destination had used up its share of questions or of validation.", []string{"budget"}, func(s *Snapshot, e emit) {
			e(float64(s.Resolve.OverQuestions), "questions")
			e(float64(s.Resolve.OverValidation), "validation")
		}},
	}
}

func questions(s *Snapshot, e emit) {
	for kind, n := range s.Resolve.Questions {
		e(float64(n), kind.Server.String(), kind.Reply.String())
	}
}

func policyFamilies() []family {
	return []family{
		{Counter, "tlsverdict_policy_fetches_total", "MTA-STS policies fetched, by result (RFC 8460 §4.3.2.2, or ok).", []string{"result"}, fetches},
		{Histogram, fetchName, "How long policy fetches took.", nil, nil},
		{Gauge, "tlsverdict_policies", "MTA-STS policies kept, expired ones too, by mode.", []string{"mode"}, surveyed(func(s *Snapshot, e emit) {
			for mode, n := range s.Survey.Policies {
				e(float64(n), mode.String())
			}
		})},
		{Gauge, "tlsverdict_policies_expired", "Those past their end.", nil, surveyed(one(func(s *Snapshot) int { return s.Survey.Expired }))},
		{Gauge, "tlsverdict_policies_failing", "Those that hold, and whose last fetch failed.", nil, surveyed(one(func(s *Snapshot) int { return s.Survey.Failing }))},
		{Gauge, "tlsverdict_policies_failing_next_expiry_timestamp_seconds", "When the first of these ends; absent where there is none.", nil, surveyed(func(s *Snapshot, e emit) {
			if len(s.Survey.Soonest) > 0 {
				e(seconds(s.Survey.Soonest[0].Expires()))
			}
		})},
		{Gauge, "tlsverdict_policies_surveyed_timestamp_seconds", "When the policies were counted last.", nil, surveyed(func(s *Snapshot, e emit) { e(seconds(s.Surveyed)) })},
	}
}

// surveyed leaves out what is not known yet.
func surveyed(read func(*Snapshot, emit)) func(*Snapshot, emit) {
	return func(s *Snapshot, e emit) {
		if !s.Surveyed.IsZero() {
			read(s, e)
		}
	}
}

// fetches tells of results that did not happen as well, so that the first is seen to rise.
func fetches(s *Snapshot, e emit) {
	for _, result := range []string{gather.Fetched, fetch.PolicyFetchError.String(), fetch.PolicyInvalid.String(), fetch.WebPKIInvalid.String()} {
		e(float64(s.Fetches[result]), result)
	}
}

func storeFamilies() []family {
	return []family{
		{Gauge, "tlsverdict_store_durable", "1 if the last write to the file worked; 0 for a store in memory.", nil, func(s *Snapshot, e emit) { e(yes(s.Store.Durable)) }},
		{Counter, "tlsverdict_store_writes_total", "Transactions written.", nil, one(func(s *Snapshot) uint64 { return s.Store.Writes })},
		{Counter, "tlsverdict_store_write_failures_total", "Writes that failed.", nil, one(func(s *Snapshot) uint64 { return s.Store.Failures })},
		{Gauge, "tlsverdict_store_waiting_changes", "Changes that are not on disk.", nil, one(func(s *Snapshot) int { return s.Store.Waiting })},
		{Gauge, "tlsverdict_store_waiting_bytes", "Their memory, about.", nil, one(func(s *Snapshot) int { return s.Store.Octets })},
		{Counter, "tlsverdict_store_dropped_changes_total", "Changes lost because too many waited: refused, or evicted for newer ones.", []string{"cause"}, func(s *Snapshot, e emit) {
			e(float64(s.Store.Refused), "refused")
			e(float64(s.Store.Evicted), "evicted")
		}},
		{Gauge, "tlsverdict_history_records", "Changes of verdicts that are kept.", nil, one(func(s *Snapshot) int { return s.History.Records })},
		{Counter, "tlsverdict_history_dropped_total", "Those not kept, or no longer, because there were too many.", nil, one(func(s *Snapshot) uint64 { return s.History.Dropped })},
		{Counter, "tlsverdict_store_damaged_total", "Times that the file was found damaged.", nil, one(func(s *Snapshot) uint64 { return s.Store.Damaged })},
		{Counter, "tlsverdict_store_unreadable_records_total", "Domains whose record could not be read.", nil, one(func(s *Snapshot) uint64 { return s.Store.Ignored })},
	}
}

func fleetFamilies() []family {
	return []family{
		{Gauge, "tlsverdict_fleet_up", "1 if the shared store is within reach; 0 where there is none, too.", nil, func(s *Snapshot, e emit) { e(yes(s.Fleet.Up)) }},
		{Counter, "tlsverdict_fleet_connections_total", "Times that the shared store came within reach.", nil, one(func(s *Snapshot) uint64 { return s.Fleet.Connected })},
		{Counter, "tlsverdict_fleet_questions_total", "Questions to the shared store for a destination: found had a record, failed had no answer in time.", []string{"result"}, func(s *Snapshot, e emit) {
			f := s.Fleet
			e(float64(f.Found), "found")
			e(float64(f.Failed), "failed")
			e(float64(f.Asked-min(f.Asked, f.Found+f.Failed)), "absent")
		}},
		{Counter, "tlsverdict_fleet_taken_total", "Policies and pins of others that made this node demand more, or for longer.", nil, one(func(s *Snapshot) uint64 { return s.Fleet.Taken })},
		{Counter, "tlsverdict_fleet_foreign_records_total", "Records that were not written by this fleet, or damaged.", nil, one(func(s *Snapshot) uint64 { return s.Fleet.Foreign })},
		{Counter, "tlsverdict_fleet_published_total", "Records written to the shared store.", nil, one(func(s *Snapshot) uint64 { return s.Fleet.Published })},
		{Counter, "tlsverdict_fleet_dropped_total", "Records not written, because too many waited.", nil, one(func(s *Snapshot) uint64 { return s.Fleet.Dropped })},
	}
}

func connectionFamilies() []family {
	return []family{
		{Gauge, "tlsverdict_connections", "Connections of mail servers that are open.", nil, one(func(s *Snapshot) int { return s.Server.Open })},
		{Gauge, "tlsverdict_connections_limit", "Those that may be.", nil, one(func(s *Snapshot) int { return s.Connections })},
		{Counter, "tlsverdict_connections_accepted_total", "Connections served.", nil, one(func(s *Snapshot) uint64 { return s.Server.Accepted })},
		{Counter, "tlsverdict_connections_refused_total", "Newcomers closed because every connection was busy.", nil, one(func(s *Snapshot) uint64 { return s.Server.Refused })},
		{Counter, "tlsverdict_connections_closed_total", "Connections closed by policyd: shed for a newcomer, idle, malformed (bytes that are no request), unfinished (ended inside a request), unread (its replies could not be written).", []string{"cause"}, closed},
		{Counter, "tlsverdict_accept_errors_total", "Connections that could not be accepted, each tried again.", nil, one(func(s *Snapshot) uint64 { return s.Server.AcceptErrs })},
		{Counter, "tlsverdict_requests_total", "Requests answered.", nil, one(func(s *Snapshot) uint64 { return s.Server.Requests })},
		{Counter, "tlsverdict_request_defects_total", "Requests answered with TEMP because of a defect in tlsverdict.", nil, one(func(s *Snapshot) uint64 { return s.Server.Panics + s.Server.BadReplies })},
		{Gauge, "tlsverdict_http_connections", "Connections to these pages.", nil, one(func(s *Snapshot) int { return s.HTTP.Open })},
		{Counter, "tlsverdict_http_requests_total", "Requests for these pages.", nil, one(func(s *Snapshot) uint64 { return s.HTTP.Requests })},
		{Counter, "tlsverdict_http_refused_total", "Those refused for their host name, method or origin.", nil, one(func(s *Snapshot) uint64 { return s.HTTP.TurnedAway })},
	}
}

func closed(s *Snapshot, e emit) {
	e(float64(s.Server.Shed), "shed")
	e(float64(s.Server.Idle), "idle")
	e(float64(s.Server.Malformed), "malformed")
	e(float64(s.Server.Unfinished), "unfinished")
	e(float64(s.Server.Unread), "unread")
}

func probeFamilies() []family {
	return []family{
		{Counter, "tlsverdict_probes_total", "Looks at mail hosts, by whether the host proved itself.", []string{"result"}, func(s *Snapshot, e emit) {
			e(float64(s.Probes.Good), "good")
			e(float64(s.Probes.Probes-min(s.Probes.Good, s.Probes.Probes)), "failed")
		}},
		{Counter, "tlsverdict_probes_refused_total", "Hosts for which there was no place.", nil, one(func(s *Snapshot) uint64 { return s.Probes.Refused })},
		{Gauge, "tlsverdict_probe_hosts", "Hosts that are remembered.", nil, one(func(s *Snapshot) int { return s.Probes.Targets })},
		{Counter, "tlsverdict_banners_total", "Looks that found a directive in a banner: seen, believed of them, and pinned where the host was not before.", []string{"result"}, func(s *Snapshot, e emit) {
			e(float64(s.Pins.Banners), "seen")
			e(float64(s.Pins.Believed), "believed")
			e(float64(s.Pins.Pinned), "pinned")
		}},
		{Gauge, "tlsverdict_pins", "Hosts that are pinned by their banner, ended pins too.", nil, one(func(s *Snapshot) int { return s.Store.Pins })},
	}
}

func daemonFamilies() []family {
	return []family{
		{Gauge, "tlsverdict_ready", "1 if /readyz answers 200.", nil, func(s *Snapshot, e emit) { e(yes(s.Report.Status != readiness.Unready)) }},
		{Gauge, "tlsverdict_readiness_problem", "1 for each reason of /readyz that holds.", []string{"reason"}, problems},
		{Gauge, "tlsverdict_config_last_reload_successful", "0 if the last reload was refused.", nil, func(s *Snapshot, e emit) { e(yes(s.Reloaded)) }},
		{Gauge, "tlsverdict_config_last_reload_success_timestamp_seconds", "When the settings in force were read.", nil, func(s *Snapshot, e emit) { e(seconds(s.Loaded)) }},
		{Gauge, "tlsverdict_build_info", "Always 1.", []string{"version", "revision", "goversion"}, func(s *Snapshot, e emit) {
			e(1, s.Build.Version, s.Build.Revision, s.Build.Go)
		}},
	}
}

func problems(s *Snapshot, e emit) {
	holds := make(map[readiness.Code]bool)
	for _, r := range s.Report.Reasons {
		holds[r.Code] = true
	}
	for code := range readiness.Codes() {
		e(yes(holds[code]), string(code))
	}
}

// Table writes the families as a table of Markdown.
func Table() string {
	var b strings.Builder
	b.WriteString("| metric | kind | labels | what |\n|---|---|---|---|\n")
	for _, f := range families() {
		labels := "`" + strings.Join(f.labels, "`, `") + "`"
		if len(f.labels) == 0 {
			labels = ""
		}
		b.WriteString("| `" + f.name + "` | " + string(f.kind) + " | " + labels + " | " + strings.TrimSuffix(f.help, ".") + " |\n")
	}
	return b.String()
}
