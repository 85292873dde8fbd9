// Package signal holds the grammars of the signals that have no standard behind
// them: names and records by which a domain, or a mail server, asks for strict TLS.
//
//	if signal.ParsePrefix("starttls-mx1.example.com") != signal.NoPrefix { ... }
//	strict, err := signal.ParseTXT(records)   // of _smtp-strict.example.com
//	strict, err := signal.ParseRR(rdata)      // of example.com, type 65400
//	banner, err := signal.ParseBanner(lines)  // 220 mx1.example.com ESMTP strict-tls=...
//
// This page is their specification. Names in angle brackets are rules of RFC 5234.
// Each grammar forgives its author what can only mean more TLS than he wrote, and
// nothing else. None of the signals lowers what DANE, MTA-STS or an operator asks for.
//
// The package is pure. It says whether a text has the form; package verdict decides
// whether it is believed. Errors wrap ErrNoRecord, ErrSeveral, ErrMalformed or
// ErrPattern. It does not look anything up, and does not know what a DNSSEC proof is.
//
// # The MX name prefix
//
// An MX host whose left-most label begins with "starttls-" or "smtps-" promises
// that TLS is mandatory there, with a WebPKI certificate for the literal name:
//
//	prefixed = ( "starttls-" / "smtps-" ) 1*( ALPHA / DIGIT / "-" ) "." domain
//
// Example: "starttls-mx1.example.com" is prefixed; "starttls.example.com" and
// "mx.starttls-x.example.com" are not. The prefix is part of the name: nothing is
// stripped.
//
// It is believed only where the MX record set is DNSSEC-secure and every MX host
// carries the prefix: without a signature whoever can strip STARTTLS can rename
// the host as well, and with one host left out an attacker would choose that one.
// It then means a WebPKI certificate for one of the MX names. "smtps-" says in
// addition that implicit TLS is spoken on a port of its own.
//
// What an attacker can do: without the zone's key, nothing but cause a deferral. With a
// certificate that a CA should not have issued, take the mail. A name that only looks
// like the prefix, in a signed zone and on all hosts, is taken for it.
//
// # The TXT record
//
// A TXT record at "_smtp-strict." and the domain, such as
//
//	_smtp-strict.example.com. TXT "v=SMTPSTRICT1; tls=required; auth=webpki"
//
// whose strings are joined without spaces:
//
//	record  = "v=SMTPSTRICT1" *WSP ";" *WSP [ field *( delim field ) ] [ delim ]
//	delim   = *WSP ";" *( *WSP ";" ) *WSP
//	field   = name *WSP "=" *WSP value
//	name    = ALPHA *31( ALPHA / DIGIT / "-" / "_" / "." )
//	value   = 1*( %x21-3A / %x3C / %x3E-7E )   ; visible, without "=" and ";"
//
// The version is as written, names and values in any case. Of the fields "tls" must be
// there and must be "required"; "auth" may be, and is "webpki"; others are for later
// versions and are ignored. An unknown value of auth asks for something this version
// does not know, and surely for TLS: it counts as no auth. A field that is there twice
// with two values makes the record malformed, as does all that breaks the grammar.
//
// Records that do not begin with the version are somebody else's and are ignored (a
// wildcard brings such). Two that begin with it count as none: which of them holds
// cannot be known.
//
// It is believed where the whole answer is DNSSEC-secure, links of a CNAME chain
// included; so a provider can publish the record once and have customers point to it.
// Then "tls=required" means TLS, whatever the certificate, and "auth=webpki" a WebPKI
// certificate for one of the MX names as they stand in the MX records (for the domain's
// own name, where it has none). That needs secure MX records as well: a forged MX name
// comes with a valid certificate of its owner's. Behind insecure MX records auth=webpki
// is tls=required.
//
// What an attacker can do: without the zone's key, cause a deferral. With tls=required,
// take the mail by any certificate, if he is on the way to the host: it protects from
// those who strip STARTTLS and from nobody else. With auth=webpki, as for the prefix.
//
// # The record type
//
// The same text in a record type from the range for private use (RFC 6895 §3.1: 65280
// to 65534), at the domain itself. The number is a setting; DefaultRRType is 65400. The
// data is that of a TXT record (RFC 1035 §3.3.14):
//
//	rdata            = 1*character-string       ; together the record of above
//	character-string = OCTET *255OCTET          ; the first says how many follow
//
// which a zone file has in the form for unknown types (RFC 3597 §5):
//
//	example.com. TYPE65400 \# 28 1b763d534d5450535452494354313b20746c733d7265717569726564
//
// A number for private use may be in use for something else: data that is not of this
// form, or whose text does not begin with the version, is somebody else's and is ignored.
// All the rest is as for the TXT record. What the type has in advance of it: no wildcard
// meant for other records answers for it, and no name of its own is needed. What it has
// against it: name servers and panels that know no unknown types.
//
// # The banner
//
// A mail server's greeting, whose last words on one of its lines are a directive:
//
//	220 mx1.example.com ESMTP strict-tls=*.example.com; max-age=604800; includeSubDomains
//
//	greeting  = *( "220-" line ) "220" SP line   ; RFC 5321 §4.2, without line ends
//	line      = *( word SP ) [ directive ]
//	directive = "strict-tls=" pattern *( *WSP ";" *WSP param ) [ *WSP ";" ] *WSP
//	pattern   = [ "*." ] host                    ; A-labels, at least two
//	param     = "max-age" *WSP "=" *WSP 1*DIGIT  ; seconds, must be there
//	          / "includeSubDomains"
//	          / name [ *WSP "=" *WSP value ]     ; for later versions: ignored
//
// Upper and lower case are alike. "*." stands for one label, as in a certificate; with
// includeSubDomains the pattern covers all host names below it, too. A pattern whose
// host is a public suffix ("*.com", "*.co.uk", "github.io") covers what belongs to
// others and is refused. More than MaxAge is cut to it (RFC 8461 §3.2 has the same
// bound). A max-age of 0 asks for nothing.
//
// It is believed of the host that was connected to, by a probe that read it on port 25
// and then, on the same connection, completed STARTTLS with a certificate valid for that
// host, which the pattern covers. It then pins this host: a WebPKI certificate is
// mandatory there until the pin expires. Another host that the pattern covers is pinned
// once a probe of its own has shown as much of it, and not before; a domain is strict
// when all of its MX hosts are pinned. Nothing in a banner is about recipient domains.
//
// The greeting comes before TLS, so that whoever is on the way can write it. What an
// attacker can do: pin a host that really has a valid certificate, for a year at most,
// which does no harm until that certificate goes; and keep a host from being pinned at
// first contact. He cannot end a pin: neither a banner without the directive nor
// max-age=0 does, only time. He can forge MX records of an unsigned domain and so lead
// to a host that is not pinned.
package signal
