package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

func (r *report) print(out io.Writer) {
	fmt.Fprintf(out, "%s, %d cores shared by server, stores and driver (%s), %d connections\n", r.Go, r.Cores, r.Driver, r.Connections)
	fmt.Fprintf(out, "signatures per core: ES256 %.0f/s, RS256 %.0f/s, EdDSA %.0f/s\n", r.Signatures["ES256"], r.Signatures["RS256"], r.Signatures["EdDSA"])
	fmt.Fprintf(out, "binary: %s %s\n", size(r.BinarySize), verdict(r.BinarySize <= maxSize, "≤ "+size(maxSize)))
	for _, v := range r.Variants {
		fmt.Fprintf(out, "\n%s\n", v.Name)
		fmt.Fprintf(out, "  first start %s; start %s %s; idle %s %s; after load %s\n",
			round(v.FirstStart), round(v.Start), verdict(v.Start <= maxStart, "≤ "+maxStart.String()),
			size(v.Idle), verdict(v.Idle <= maxIdle, "≤ "+size(maxIdle)), size(v.Loaded))
		t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(t, "\tops/s\tratio\ttarget\tp50\tp99\t")
		fmt.Fprintf(t, "bare net/http handler\t%.0f\t1.00\t\t%s\t%s\t\n", median(rates(v.Bare)), round(typical(v.Bare, p50)), round(typical(v.Bare, p99)))
		for _, m := range v.Cases {
			target := ""
			if m.Target > 0 {
				target = verdict(m.Ratio >= m.Target, fmt.Sprintf("≥ %.2f", m.Target))
			}
			fmt.Fprintf(t, "%s\t%.0f\t%.2f\t%s\t%s\t%s\t\n", m.Name, m.PerSecond, m.Ratio, target, round(typical(m.Rounds, p50)), round(typical(m.Rounds, p99)))
		}
		_ = t.Flush()
	}
	if missed := r.missed(); len(missed) > 0 {
		fmt.Fprintf(out, "\nmissed: %s\n", strings.Join(missed, "; "))
	}
}

// missed names every target that was not reached.
func (r *report) missed() []string {
	var out []string
	if r.BinarySize > maxSize {
		out = append(out, "binary "+size(r.BinarySize))
	}
	for i, v := range r.Variants {
		if i == 0 && v.Idle > maxIdle { // memory and start are promised for the embedded stores, which come first
			out = append(out, v.Name+": idle "+size(v.Idle))
		}
		if i == 0 && v.Start > maxStart {
			out = append(out, v.Name+": start "+v.Start.String())
		}
		for _, m := range v.Cases {
			if m.Ratio < m.Target {
				out = append(out, fmt.Sprintf("%s: %s %.3f < %.2f", v.Name, m.Name, m.Ratio, m.Target))
			}
		}
	}
	return out
}

func verdict(reached bool, target string) string {
	if reached {
		return "(" + target + " ✓)"
	}
	return "(" + target + " ✗)"
}

func size(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

func round(d time.Duration) time.Duration {
	if d > 10*time.Millisecond {
		return d.Round(time.Millisecond)
	}
	return d.Round(10 * time.Microsecond)
}

func rates(rs []result) []float64 {
	var out []float64
	for _, r := range rs {
		out = append(out, r.PerSecond)
	}
	return out
}

func p50(r result) time.Duration { return r.P50 }
func p99(r result) time.Duration { return r.P99 }

// typical is the median over the rounds of what pick takes from each.
func typical(rs []result, pick func(result) time.Duration) time.Duration {
	var out []float64
	for _, r := range rs {
		out = append(out, float64(pick(r)))
	}
	return time.Duration(median(out))
}
