import { call, confirmPassword, logIn, logOut } from "./session.js";

const page = (id) => document.getElementById(id);

page("login").onsubmit = doing(async (form) => {
  await logIn({
    username: form.username.value,
    password: form.password.value,
    remember: form.remember.checked,
    device: navigator.platform,
  });
  form.reset();
  await show();
});

page("add").onsubmit = doing(async (form) => {
  await call("POST", "/notes", { text: form.text.value });
  form.reset();
  await show();
});

page("clear").onclick = doing(async () => {
  try {
    await call("DELETE", "/notes");
  } catch (refused) {
    if (refused.code !== "fresh_login_required") throw refused;
    return (page("confirm").hidden = false);
  }
  await show();
});

page("confirm").onsubmit = doing(async (form) => {
  await confirmPassword(form.password.value);
  await call("DELETE", "/notes");
  form.reset();
  form.hidden = true;
  await show();
});

page("logout").onclick = doing(async () => {
  await logOut();
  signedIn(false);
});

async function show() {
  const [notes, { sessions }] = await Promise.all([call("GET", "/notes"), call("GET", "/sessions")]);
  page("notes").replaceChildren(...notes.map(({ id, text }) => item(text, "Delete", `/notes/${id}`)));
  page("sessions").replaceChildren(...sessions.map(({ id, device, agent, current }) =>
    current ? item("This one") : item(device ?? agent ?? "?", "End", `/sessions/${id}`)));
  signedIn(true);
}

function item(text, verb, path) {
  const li = document.createElement("li");
  li.append(text, " ");
  if (verb) {
    const button = document.createElement("button");
    button.append(verb);
    button.onclick = doing(async () => {
      await call("DELETE", path);
      await show();
    });
    li.append(button);
  }
  return li;
}

function signedIn(yes) {
  page("login").hidden = yes;
  page("app").hidden = !yes;
}

/** An event handler that shows what went wrong, and the login form when the session is over. */
function doing(what) {
  return async (event) => {
    event?.preventDefault();
    page("problem").textContent = "";
    try {
      await what(event?.currentTarget);
    } catch (problem) {
      if (problem.status === 401) signedIn(false);
      // Without a token the login form says it all.
      if (problem.code !== "token_missing") page("problem").textContent = problem.message;
    }
  };
}

await doing(show)();
