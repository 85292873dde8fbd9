package socketmapd

import (
	"errors"
	"fmt"
	"strings"

	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/verdict"
	"tlsverdict/postfixmap"
)

// translate is what an override, which is written in Postfix's words, means to an MTA
// that has others. Each becomes a verdict that demands at least as much; where there is
// none, mail waits, and the text says how to mend that: what an operator asked for and
// did not get would be found out by nobody.
//
// named makes a verdict of the names that certificates must be for, as match= has them
// (".example.com" stands for what is below it), or says what to write instead.
//
// Levels that leave clear text as a way out become "no policy": there their attributes
// protect nothing. What "none" asks for, never to use TLS, is not told.
func translate(mta string, d nexthop.Destination, v verdict.Fixed, named func([]string) (verdict.Verdict, error)) verdict.Verdict {
	out, err := translated(d, v, named)
	if err != nil {
		text := fmt.Sprintf("the override of %s (%s) cannot be told to %s: %v", d.Name, v.Level, mta, err)
		return verdict.Defer{Fault: verdict.Operator, Text: text}
	}
	return out
}

func translated(d nexthop.Destination, v verdict.Fixed, named func([]string) (verdict.Verdict, error)) (verdict.Verdict, error) {
	switch v.Level {
	case postfixmap.LevelNone.String(), postfixmap.LevelMay.String():
		return verdict.NoPolicy{}, nil
	}
	if err := sayable(v); err != nil {
		return nil, err
	}
	switch v.Level {
	case postfixmap.LevelEncrypt.String():
		return verdict.Encrypt{}, nil
	case postfixmap.LevelDANE.String():
		return verdict.DANE{}, nil
	case postfixmap.LevelDANEOnly.String():
		return verdict.DANEOnly{}, nil
	case postfixmap.LevelVerify.String(), postfixmap.LevelSecure.String():
		names, err := matched(d, v)
		if err != nil {
			return nil, err
		}
		return named(names)
	}
	return nil, errors.New(`write "dane-only", "encrypt", or "secure" with match=`)
}

// sayable refuses attributes that only Postfix has words for. The others ask for no
// more than the level does.
func sayable(v verdict.Fixed) error {
	certificate := v.Level == postfixmap.LevelVerify.String() || v.Level == postfixmap.LevelSecure.String()
	for _, a := range v.Attributes {
		switch a.Name {
		case "match":
		case "connection_reuse", "enable_rpk", "policy_type", "policy_domain", "policy_ttl", "policy_failure":
		case "servername":
			if certificate && a.Value != postfixmap.ServerNameHostname {
				return errors.New("write servername=hostname")
			}
		case "mx_host_pattern":
			if certificate {
				return errors.New("take mx_host_pattern= out of it")
			}
		default:
			return fmt.Errorf("take %s= out of it, and set that in the mail server's own configuration", a.Name)
		}
	}
	return nil
}

// matched are the names that certificates must be for, in lower case. Without match=
// they are what Postfix takes by default.
func matched(d nexthop.Destination, v verdict.Fixed) ([]string, error) {
	strategies := []string{string(postfixmap.StrategyNexthop), string(postfixmap.StrategyDotNexthop)}
	if v.Level == postfixmap.LevelVerify.String() {
		strategies = []string{string(postfixmap.StrategyHostname)}
	}
	words := strategies
	for _, a := range v.Attributes {
		if a.Name == "match" {
			words = strings.Split(strings.ToLower(a.Value), ":")
		}
	}
	names := make([]string, len(words))
	for i, word := range words {
		switch postfixmap.Strategy(word) {
		case postfixmap.StrategyHostname:
			return nil, errors.New("write the names of the MX hosts in match=")
		case postfixmap.StrategyNexthop:
			names[i] = d.Name
		case postfixmap.StrategyDotNexthop:
			names[i] = "." + d.Name
		default:
			names[i] = word
		}
	}
	return names, nil
}
