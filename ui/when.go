package ui

import (
	"strconv"
	"time"
)

// when says a moment in words, in the person's zone if the profile names one, otherwise in UTC.
func (l *locale) when(t, now time.Time, zoneinfo string) string {
	if since := now.Sub(t); since >= 0 && since < time.Hour {
		return l.many("when.minutes", int(since/time.Minute))
	}
	place := zone(zoneinfo)
	t, now = t.In(place), now.In(place)
	clock := t.Format("15:04 MST")
	switch {
	case sameDay(t, now):
		return l.text("when.today", clock)
	case sameDay(t, now.AddDate(0, 0, -1)):
		return l.text("when.yesterday", clock)
	}
	return l.text("when.date", l.date(t), clock)
}

// moment is when without words such as "today", which would be wrong by the time a mail is read.
func (l *locale) moment(t time.Time, zoneinfo string) string {
	t = t.In(zone(zoneinfo))
	return l.text("when.date", l.date(t), t.Format("15:04 MST"))
}

func (l *locale) date(t time.Time) string {
	day := strconv.Itoa(t.Day())
	if l.Lang == "fr" && t.Day() == 1 {
		day = "1er" // the one day that French counts with an ordinal
	}
	return l.text("when.day", day, l.text("when.month."+t.Format("01")), t.Year())
}

// span says a length of time in words, in the largest unit that gives a whole number of it from two on.
func (l *locale) span(d time.Duration) string {
	switch {
	case d >= 48*time.Hour && d%(24*time.Hour) == 0:
		return l.many("span.days", int(d/(24*time.Hour)))
	case d >= time.Hour && d%time.Hour == 0:
		return l.many("span.hours", int(d/time.Hour))
	}
	return l.many("span.minutes", max(1, int(d/time.Minute)))
}

func sameDay(a, b time.Time) bool {
	return a.Year() == b.Year() && a.YearDay() == b.YearDay()
}

func zone(zoneinfo string) *time.Location {
	// LoadLocation reads "Local" as the server's own zone, which is none of the person's business.
	if zoneinfo == "" || zoneinfo == "Local" {
		return time.UTC
	}
	place, err := time.LoadLocation(zoneinfo)
	if err != nil {
		return time.UTC
	}
	return place
}
