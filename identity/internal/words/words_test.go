package words

import "testing"

func TestFind(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		word string
		tier Tier
		ok   bool
	}{
		{"you", Commonest, true},
		{"password", Common, true},
		{"gatehouse", Common, true},
		{"1q2w3e4r5t6y", Known, true},
		{"guadalupe", Known, true},
		{"stubblefield", Listed, true},
		{"PASSWORD", 0, false},
		{"kontramelone", 0, false},
		{"xy", 0, false},
		{"", 0, false},
		{"an absurdly long word which nobody has", 0, false},
	} {
		if tier, ok := Find(c.word); tier != c.tier || ok != c.ok {
			t.Errorf("Find(%q) = %v, %v; want %v, %v", c.word, tier, ok, c.tier, c.ok)
		}
	}
}

func TestListIsSound(t *testing.T) {
	t.Parallel()
	n := len(list) / EntrySize
	if len(list)%EntrySize != 0 || n < 80000 {
		t.Fatalf("list of %d bytes, want whole entries and all of them", len(list))
	}
	for i := range n - 1 {
		if entry(i)>>2 >= entry(i+1)>>2 {
			t.Fatalf("entry %d is not below the next", i)
		}
	}
}

func TestFewAccidents(t *testing.T) {
	t.Parallel()
	found := 0
	for i := range 200_000 {
		if _, ok := Lookup(Of("no such word ").Add(rune(i))); ok {
			found++
		}
	}
	if found > 3 {
		t.Errorf("%d of 200,000 unlisted words were found", found)
	}
}

func TestLookupNeedsNoHeap(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { Find("password") }); n != 0 {
		t.Errorf("a lookup allocates %v times", n)
	}
}
