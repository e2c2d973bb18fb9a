package ui

import "github.com/gatehouse-id/gatehouse/internal/web"

// accountRoutes are the pages of a person's own account.
func (p *Pages) accountRoutes() []web.Route { return nil }
