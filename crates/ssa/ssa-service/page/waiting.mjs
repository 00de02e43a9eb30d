// A page that waits for what its person decides in another browser: asks now and then, and goes on by itself. Without this script it is
// loaded again, by itself or by hand.

/** Between two questions, in milliseconds: at first, and at most. */
const FIRST = 2_000;
const MOST = 10_000;

const { waiting, next } = document.querySelector('[data-waiting]').dataset;

/** Whether there is still something to wait for. A service that is busy or away is asked again. */
async function waits() {
  try {
    const answer = await fetch(waiting, { cache: 'no-store' });
    if (answer.ok) return (await answer.json()).waits;
    return answer.status === 429 || answer.status >= 500;
  } catch {
    return true;
  }
}

let asking = false;
/** On its way: going once more would break off what is being loaded. */
let gone = false;
async function ask() {
  // Nobody looks at it meanwhile, and the first thing after a look is a question.
  if (asking || gone || document.hidden) return;
  asking = true;
  gone = !(await waits());
  asking = false;
  if (gone) location.replace(next);
}

function later(pause) {
  setTimeout(async () => {
    await ask();
    if (!gone) later(Math.min(pause * 1.5, MOST));
  }, pause);
}

document.addEventListener('visibilitychange', ask);
later(FIRST);
