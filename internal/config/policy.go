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
// spelling, so that an override reads the same however it was typed.
func attributes(p *postfixmap.TLSPolicy) ([]verdict.Attribute, error) {
	text, err := p.AppendTo(nil, newestPostfix)
	if err != nil {
		return nil, fmt.Errorf("this policy cannot be written: %w", err)
	}
	var out []verdict.Attribute
	_, rest, _ := strings.Cut(string(text), " ")
	for rest != "" {
		var token string
		token, rest = cutAttribute(rest)
		name, value, _ := strings.Cut(token, "=")
		out = append(out, verdict.Attribute{Name: strings.TrimSpace(name), Value: strings.TrimSpace(value)})
	}
	return out, nil
}

// cutAttribute takes name=value, or what is inside { name = value }, off an
// encoded line.
func cutAttribute(line string) (token, rest string) {
	if !strings.HasPrefix(line, "{") {
		token, rest, _ = strings.Cut(line, " ")
		return token, rest
	}
	depth := 0
	for i := range len(line) {
		switch line[i] {
		case '{':
			depth++
		case '}':
			depth--
		}
		if depth == 0 {
			return line[1:i], strings.TrimPrefix(line[i+1:], " ")
		}
	}
	return line[1:], ""
}
