"""Engines: one protocol, and one small module for each runtime that implements it."""
