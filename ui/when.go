package ui

import "time"

// when says a moment in words, in the person's zone if the profile names one, otherwise in UTC.
func (p *Pages) when(t time.Time, zoneinfo string) string {
	now := p.Now()
	if since := now.Sub(t); since >= 0 && since < time.Hour {
		switch minutes := int(since / time.Minute); minutes {
		case 0:
			return p.text("when.now")
		case 1:
			return p.text("when.minute")
		default:
			return p.text("when.minutes", minutes)
		}
	}
	place := zone(zoneinfo)
	t, now = t.In(place), now.In(place)
	clock := t.Format("15:04 MST")
	switch {
	case sameDay(t, now):
		return p.text("when.today", clock)
	case sameDay(t, now.AddDate(0, 0, -1)):
		return p.text("when.yesterday", clock)
	}
	return p.text("when.date", p.date(t), clock)
}

// moment is when without words such as "today", which would be wrong by the time a mail is read.
func (p *Pages) moment(t time.Time, zoneinfo string) string {
	t = t.In(zone(zoneinfo))
	return p.text("when.date", p.date(t), t.Format("15:04 MST"))
}

func (p *Pages) date(t time.Time) string {
	return p.text("when.day", t.Day(), p.text("when.month."+t.Format("01")), t.Year())
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
