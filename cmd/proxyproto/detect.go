package main

import (
	"context"
	"strings"
	"time"
)

// greetingTime is how long a server that speaks first may take for that.
const greetingTime = 600 * time.Millisecond

// detect finds out which protocol the server speaks, after a header of either version or without.
func (c *checker) detect(ctx context.Context) error {
	fallback := "raw"
	for _, p := range []probe{plain("v2"), plain("v1"), {}} {
		protocol, answer, err := c.sniff(ctx, p)
		if err != nil {
			return err
		}
		if protocol == "" && answer != hangs && !isPlainHTTP(answer) {
			// It closed, or answered in binary, or that it wants TLS.
			c.report.Protocol = "tls"
			r, err := c.try(ctx, p)
			if err != nil {
				return err
			}
			if r.Outcome == taken {
				return nil
			}
		}
		if protocol != "" {
			c.report.Protocol = protocol
			return nil
		}
		if isPlainHTTP(answer) {
			fallback = "http"
		}
	}
	c.report.Protocol = fallback
	return nil
}

// isPlainHTTP reports whether an answer is HTTP, and doesn't say that TLS is wanted.
func isPlainHTTP(answer string) bool {
	return strings.HasPrefix(answer, "HTTP/") && !strings.Contains(strings.ToLower(answer), "https")
}

// sniff makes a connection to see who speaks first. It returns the protocol if that is clear, and
// otherwise what came back, or that nothing did.
func (c *checker) sniff(ctx context.Context, p probe) (protocol, answer string, err error) {
	d, err := c.connect(ctx)
	if err != nil {
		return "", "", err
	}
	defer d.Close()
	if p.wire != nil {
		wire, err := p.wire(c.header(d.RemoteAddr()))
		if err != nil {
			return "", "", err
		}
		if _, err := d.Write(wire); err != nil {
			return "", "", ctx.Err()
		}
	}
	switch err := d.quiet(greetingTime); err {
	case errSpoke:
		first, _ := d.r.Peek(d.r.Buffered())
		switch greeting := string(first); {
		case strings.HasPrefix(greeting, "220"):
			return "smtp", greeting, nil
		case strings.HasPrefix(greeting, "SSH-"):
			return "ssh", greeting, nil
		case strings.HasPrefix(greeting, "HTTP/"): // it doesn't take the header for one
			return "", greeting, nil
		}
		return "raw", string(first), nil
	case nil:
	default:
		return "", "", ctx.Err()
	}
	if err := d.SetDeadline(time.Now().Add(c.wait)); err != nil {
		return "", "", err
	}
	outcome, _, answer := c.askHTTP(d)
	switch outcome {
	case taken:
		return "http", answer, nil
	case hangs:
		return "", hangs, nil
	}
	return "", answer, nil
}
