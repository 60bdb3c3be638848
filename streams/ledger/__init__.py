"""Spending of each lane: ledger records, reservations, settlement, totals per period."""
