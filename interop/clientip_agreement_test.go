package interop

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	agreementInFull  = 5000
	agreementInShort = 500
)

// TestClientIPAgreement shows the same requests to all judges. What each of them says has to be what
// its settings and its quirks make of the fields, so that a difference has the quirk for its reason.
func TestClientIPAgreement(t *testing.T) {
	n := agreementInShort
	if inFull {
		n = agreementInFull
	}
	all, goJudges := startJudges(t)
	requests := generateRequests(n)
	outcomes := showJudges(t, all, goJudges, requests)
	found := agree(t, all, requests, outcomes)
	for _, j := range found.Judges {
		t.Logf("%-55s %5d as we say, %4d otherwise, %4d of them name somebody else", j.Name, j.Same, j.Differs, j.Contradicts)
	}
	if inFull && !t.Failed() {
		found.Versions = versions(t)
		found.write(t)
	}
}

// agree finds the differences, and fails for outcomes that nothing explains.
func agree(t *testing.T, all []*judge, requests []*agreementRequest, outcomes [][]string) *agreement {
	t.Helper()
	found := &agreement{Requests: len(requests)}
	unexplained := 0
	var base *judge
	var ours int
	for k, j := range all {
		if j.like == "" {
			base, ours = j, k
		}
		counted := agreementJudge{Name: j.name, Like: j.like}
		for i, r := range requests {
			we, they := outcomes[i][ours], outcomes[i][k]
			if want := r.readAs(base.field, base.hops, j.quirks); they != want && (they != outcomeRefused || we != they) {
				if unexplained++; unexplained <= 10 {
					t.Errorf("%s says %s, expected %s: %s", j.name, they, want, r.example(base, we, they))
				}
				continue
			}
			if we == they {
				counted.Same++
				continue
			}
			counted.Differs++
			if they != outcomeNone {
				counted.Contradicts++
			}
			q, ok := r.why(base, j, they)
			if !ok {
				t.Errorf("%s: too many habits at once: %s", j.name, r.example(base, we, they))
				continue
			}
			found.add(j, q, r.example(base, we, they))
		}
		found.Judges = append(found.Judges, counted)
	}
	if unexplained > 0 {
		t.Errorf("%d outcomes are unexplained", unexplained)
	}
	return found
}

// showJudges returns what each judge says of each request.
func showJudges(t *testing.T, all []*judge, goJudges func(*agreementRequest) (map[string]string, error),
	requests []*agreementRequest) [][]string {
	t.Helper()
	outcomes := make([][]string, len(requests))
	show := func(i int) error {
		answers, err := goJudges(requests[i])
		if err != nil {
			return err
		}
		outcomes[i] = make([]string, len(all))
		for k, j := range all {
			switch {
			case j.ask != nil:
				if outcomes[i][k], err = j.ask(requests[i]); err != nil {
					return err
				}
			case answers == nil:
				outcomes[i][k] = outcomeRefused
			default:
				outcomes[i][k] = answers[j.name]
			}
		}
		return nil
	}
	var (
		workers sync.WaitGroup
		mu      sync.Mutex
		done    int
		failed  error
	)
	for w := range 8 {
		workers.Go(func() {
			for i := w; i < len(requests); i += 8 {
				err := show(i)
				mu.Lock()
				if failed == nil {
					failed = err
				}
				stop := failed != nil
				if done++; done%1000 == 0 {
					t.Logf("%s %d of %d requests shown", time.Now().Format(time.TimeOnly), done, len(requests))
				}
				mu.Unlock()
				if stop {
					return
				}
			}
		})
	}
	workers.Wait()
	require.NoError(t, failed)
	return outcomes
}
