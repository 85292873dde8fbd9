package config

import (
	"errors"
	"fmt"
	"strings"

	"tlsverdict/internal/verdict"
	"tlsverdict/postfixmap"
)

// ignore is the policy that says that there is none.
const ignore = "ignore"

// newestPostfix is the release whose policies may be written. Which release asks
// is not known here; what older ones refuse is a warning.
const newestPostfix = postfixmap.V3_10

// setPolicy takes a policy over as Postfix writes it, or "ignore".
func setPolicy(o *Override, v any) error {
	text, ok := v.(string)
	if !ok || strings.TrimSpace(text) == "" {
		return errors.New(`want a TLS policy as Postfix writes it, such as "encrypt" or "secure match=.example.com", or "ignore"`)
	}
	if text == ignore {
		o.Level, o.Attributes = "", nil
		return nil
	}
	p, err := postfixmap.ParseTLSPolicy(text, newestPostfix)
	if err != nil {
		return errors.New(strings.TrimLeft(strings.TrimPrefix(err.Error(), postfixmap.ErrPolicy.Error()), ": "))
	}
	if len(p.PolicyStrings) > 0 {
		return errors.New("policy_string: it quotes a policy that a domain published, and an override is none: leave it out")
	}
	o.since = since(&p)
	o.Level = p.Level.String()
	o.Attributes, err = attributes(&p)
	return err
}

// since returns the oldest release that takes a policy.
func since(p *postfixmap.TLSPolicy) postfixmap.Version {
	for _, v := range []postfixmap.Version{postfixmap.V3_4, postfixmap.V3_6, postfixmap.V3_9} {
		if p.Check(v) == nil {
			return v
		}
	}
	return newestPostfix
}

// attributes returns the attributes of a policy in the encoder's order and
// spelling, so that an override reads the same however it was typed. No value has
// a space: policy_string, which may, was refused.
func attributes(p *postfixmap.TLSPolicy) ([]verdict.Attribute, error) {
	text, err := p.AppendTo(nil, newestPostfix)
	if err != nil {
		return nil, fmt.Errorf("this policy cannot be written: %w", err)
	}
	var out []verdict.Attribute
	for _, word := range strings.Fields(string(text))[1:] {
		name, value, _ := strings.Cut(word, "=")
		out = append(out, verdict.Attribute{Name: name, Value: value})
	}
	return out, nil
}
