// Work that is done at most so often, however often it is asked for, and components that follow what changes.

import { useEffect, useReducer } from "./vendor/preact-htm.js";

/** A function that has `work` done in the next frame, once however often it is called. */
export function oncePerFrame(work) {
  let due = false;
  return () => {
    if (due) return;
    due = true;
    requestAnimationFrame((now) => {
      due = false;
      work(now);
    });
  };
}

/** A function that has `work` done soon, at most once in so many milliseconds. */
export function atMostEvery(milliseconds, work) {
  let timer = null;
  let last = -Infinity;
  return () => {
    if (timer !== null) return;
    timer = setTimeout(
      () => {
        timer = null;
        last = performance.now();
        work();
      },
      Math.max(0, last + milliseconds - performance.now()),
    );
  };
}

/** Draw the component again when the store changes, at most once in so many milliseconds (0: once a frame). */
export function useStore(store, milliseconds = 0) {
  const [, draw] = useReducer((count) => count + 1, 0);
  useEffect(() => {
    const end = store.subscribe(milliseconds ? atMostEvery(milliseconds, draw) : draw);
    draw();
    return end;
  }, [store]);
}
