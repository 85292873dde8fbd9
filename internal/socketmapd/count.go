package socketmapd

import (
	"errors"
	"fmt"

	"tlsverdict/internal/engine"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/tally"
	"tlsverdict/internal/verdict"
)

// Answers are counted by map and outcome. Both are closed sets, so that each pair has a
// counter from the start on, and a hit finds its own without looking for it.

// mapNo is a map, in the order of countedMaps.
type mapNo int

const (
	mapPostfix mapNo = iota
	mapTLSRPT
	mapTransport
	mapSTS
	mapTLS
	mapExim
	mapVerdict
	mapJSON
	mapUnknown
)

// countedMaps are the words that maps are counted under: their names, without synonyms.
func countedMaps() []string {
	return []string{"postfix", "postfix-tlsrpt", "transport", "sts", "tls", "exim", "verdict", "json", "unknown"}
}

// outcome is what came of a question, in the order of outcomes.
type outcome int

const (
	outcomeNone outcome = iota
	outcomeDANEOnly
	outcomeDANE
	outcomeFingerprint
	outcomeSecure
	outcomeEncrypt
	outcomeOverride
	outcomeDefer
	// outcomeImplicit: the map transport sends mail to the port of implicit TLS.
	outcomeImplicit
	// outcomeLiteral: an address literal or a parent-domain key, which have no policy.
	outcomeLiteral
	// outcomeInvalid: a key that is no destination.
	outcomeInvalid
	// outcomeRefused: a map that does not exist, or too many reports.
	outcomeRefused

	outcomeCount
)

func outcomes() []string {
	return []string{
		"none", "dane-only", "dane", "fingerprint", "secure", "encrypt", "override", "defer",
		"implicit-tls", "no-destination", "invalid-key", "refused",
	}
}

// outcomeOf is the outcome that is a verdict.
func outcomeOf(v verdict.Verdict) outcome {
	switch v.(type) {
	case verdict.NoPolicy:
		return outcomeNone
	case verdict.DANEOnly:
		return outcomeDANEOnly
	case verdict.DANE:
		return outcomeDANE
	case verdict.Fingerprint:
		return outcomeFingerprint
	case verdict.STS, verdict.WebPKI:
		return outcomeSecure
	case verdict.Encrypt:
		return outcomeEncrypt
	case verdict.Fixed:
		return outcomeOverride
	case verdict.Defer:
		return outcomeDefer
	}
	panic(fmt.Sprintf("socketmapd: a verdict of type %T is not counted", v))
}

// outcomeWithout is the outcome of a key for which there is no destination.
func outcomeWithout(err error) outcome {
	if errors.Is(err, nexthop.ErrLiteral) || errors.Is(err, nexthop.ErrParent) {
		return outcomeLiteral
	}
	return outcomeInvalid
}

// answers counts answers.
type answers struct{ *tally.Tally }

func newAnswers() answers { return answers{tally.New(len(countedMaps()) * int(outcomeCount))} }

// cell is the counter of a map and an outcome.
func cell(m mapNo, o outcome) int { return int(m)*int(outcomeCount) + int(o) }

// ruled counts an answer that is a verdict.
func (a answers) ruled(m mapNo, r engine.Ruled) { a.Add(cell(m, outcomeOf(r.Verdict))) }

// possible reports whether a map can have an outcome.
func possible(m mapNo, o outcome) bool {
	switch m {
	case mapUnknown:
		return o == outcomeRefused
	case mapTransport:
		return o == outcomeNone || o == outcomeImplicit
	case mapJSON:
		return o != outcomeImplicit
	}
	return o != outcomeImplicit && o != outcomeRefused
}

// AnswerKind is what answers are counted by. Map is its name, without synonyms, and
// Outcome the verdict's name, or what else came of the question.
type AnswerKind struct{ Map, Outcome string }

// ForMail reports whether a map, by its name in AnswerKind, is one that mail servers ask
// for what holds.
func ForMail(mapName string) bool {
	in, ok := lookUp([]byte(mapName))
	return ok && !in.program
}

// Answers returns how many answers of each kind were given, 0 of those that were not yet. In
// observe mode they are counted by what would be told.
func (r *Responder) Answers() map[AnswerKind]uint64 {
	out := make(map[AnswerKind]uint64)
	for m, mapName := range countedMaps() {
		for o, name := range outcomes() {
			if possible(mapNo(m), outcome(o)) {
				out[AnswerKind{mapName, name}] = r.answers.Load(cell(mapNo(m), outcome(o)))
			}
		}
	}
	return out
}
