// What the timeline draws of a session: bins of shares where utterances are too narrow, and the mood as a smooth line.

const POINTS = 160; // of the mood line over what is shown
const LEAST_WIDTH_S = 6; // standard deviation of the smoothing
const WIDTH_SHARE = 1 / 40; // of what is shown, if that is more

/** Utterances of a session in order of time that overlap start ... end, in seconds. */
export function shownOf(utterances, start, end) {
  return utterances.filter((utterance) => utterance.end > start && utterance.start < end);
}

/** Median length of utterances in seconds; Infinity if there are none. */
export function medianLength(utterances) {
  const lengths = utterances.map(({ start, end }) => end - start).sort((one, other) => one - other);
  return lengths.length ? lengths[lengths.length >> 1] : Infinity;
}

/**
 * Seconds of each emotion in bins of `width` seconds that begin at whole multiples of it, so that they stay as the axis
 * moves: Map bin -> Map emotion -> seconds; "uncertain" labels count as their emotion.
 */
export function binned(utterances, width) {
  const bins = new Map();
  for (const { start, end, label } of utterances) {
    if (!label) continue;
    for (let bin = Math.floor(start / width); bin * width < end; bin += 1) {
      const seconds = Math.min(end, (bin + 1) * width) - Math.max(start, bin * width);
      if (seconds <= 0) continue;
      if (!bins.has(bin)) bins.set(bin, new Map());
      const shares = bins.get(bin);
      shares.set(label.emotion, (shares.get(label.emotion) ?? 0) + seconds);
    }
  }
  return bins;
}

/**
 * Mood over start ... end: the mean valence of the utterances around each moment, weighted by a normal curve and by
 * their length, and a band of one standard deviation about it.
 *
 * Answers [times, means, lows, highs], null where nobody spoke within twice the width of the curve.
 */
export function moodLine(utterances, start, end) {
  const width = Math.max(LEAST_WIDTH_S, (end - start) * WIDTH_SHARE);
  const labelled = utterances.filter(({ label }) => label);
  const centres = labelled.map((one) => (one.start + one.end) / 2);
  const [times, means, lows, highs] = [[], [], [], []];
  let first = 0;
  for (let point = 0; point <= POINTS; point += 1) {
    const time = start + ((end - start) * point) / POINTS;
    while (first < labelled.length && centres[first] < time - 4 * width) first += 1;
    let [weight, sum, squares, nearest] = [0, 0, 0, Infinity];
    for (let at = first; at < labelled.length && centres[at] < time + 4 * width; at += 1) {
      const { valence } = labelled[at];
      const seconds = Math.max(0.2, labelled[at].end - labelled[at].start);
      const share = seconds * Math.exp(-(((centres[at] - time) / width) ** 2) / 2);
      weight += share;
      sum += share * valence;
      squares += share * valence ** 2;
      nearest = Math.min(nearest, Math.abs(centres[at] - time));
    }
    // Before the first words and after the last there is no mood, however wide the curve.
    const isKnown = nearest < 2 * width && time >= labelled[0].start && time <= labelled.at(-1).end;
    const mean = isKnown ? sum / weight : null;
    const spread = isKnown ? Math.sqrt(Math.max(0, squares / weight - mean ** 2)) : 0;
    times.push(time);
    means.push(mean);
    lows.push(isKnown ? Math.max(-1, mean - spread) : null);
    highs.push(isKnown ? Math.min(1, mean + spread) : null);
  }
  return [times, means, lows, highs];
}
