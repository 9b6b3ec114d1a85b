// Sound as 16-bit little-endian mono PCM in blocks of about 0.1 s, for browsers that cannot record WebM.

const BLOCK = 4096;

class Pcm extends AudioWorkletProcessor {
  #block = new Int16Array(BLOCK);
  #filled = 0;

  process([channels]) {
    for (const sample of channels[0] ?? []) {
      this.#block[this.#filled] = Math.round(32767 * Math.min(1, Math.max(-1, sample)));
      this.#filled += 1;
      if (this.#filled < BLOCK) continue;
      this.port.postMessage(this.#block.buffer, [this.#block.buffer]);
      this.#block = new Int16Array(BLOCK);
      this.#filled = 0;
    }
    return true;
  }
}

registerProcessor("pcm", Pcm);
