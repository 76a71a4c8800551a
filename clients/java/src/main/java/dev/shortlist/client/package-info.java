/**
 * Calls a Shortlist server, which answers which few items of a catalogue suit somebody now: see {@link
 * dev.shortlist.client.ShortlistClient}. Requests and answers are the messages of {@code dev.shortlist.v1}.
 */
package dev.shortlist.client;
